"""A registry of container images that nodes can pull from: OCI distribution specification 1.1, pull only.

It serves OCI archives as they are, digests and all, on the host's loopback, which QEMU's user network gives its nodes at
a fixed address of their own. A repository's path here is the whole name of the image without its tag, registry included:
docker.io/emilyls/parted is pulled as 10.0.2.100:5000/docker.io/emilyls/parted.
"""

import json
import socket
import sys
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.containers import reference
from harness.errors import HarnessError

CONFIGURATION = PurePosixPath("/meta/etc/containers/registries.conf.d/kios-e2e.conf")
"""Where a registry's configuration goes on a data partition: read beside what the image has of its own."""

_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_UNKNOWN = {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}
_TLS_HANDSHAKE = b"\x16"  # RFC 8446, 5.1: the first byte of a record
_SILENCE_SECONDS = 30


@dataclass(frozen=True)
class Request:
    """What was asked and how it was answered; `path` as it came."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class _Content:
    """Bytes in an archive."""

    archive: Path
    offset: int
    size: int
    media_type: str
    digest: str


class Registry:
    """A registry that is being served."""

    def __init__(self, server: "_Server") -> None:
        """For `serve`."""
        self._server = server

    @classmethod
    @contextmanager
    def serve(cls, archives: Iterable[Path]) -> Iterator["Registry"]:
        """Serves the images of OCI archives until the block ends, on a port that the kernel chooses.

        HarnessError if an archive is none, or two hold different images of one name.
        """
        server = _Server(_contents(archives))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="registry", daemon=True)
        thread.start()
        try:
            yield cls(server)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self._server.server_port

    @property
    def requests(self) -> Sequence[Request]:
        """All that was asked so far, in the order of the answers."""
        return tuple(self._server.requests)

    @staticmethod
    def configuration(address: str, prefixes: Iterable[str]) -> bytes:
        """A containers-registries.conf(5) by which a node pulls all images with these prefixes from here, without TLS.

        `address` is HOST:PORT as the node reaches this. A prefix is a registry, with or without a path: `docker.io/emilyls`.
        This is the only place where such an image is looked for: one that is missing here is not pulled from the internet
        instead, as it would be behind a mirror.
        HarnessError if a prefix is none.
        """
        return "\n".join(_remapped(address, prefix) for prefix in dict.fromkeys(prefixes)).encode()


def _remapped(address: str, prefix: str) -> str:
    if not reference.is_prefix(prefix):
        raise HarnessError(f"{prefix!r} is no prefix of names of images: give HOST or HOST/PATH, without a tag or a scheme")
    return f'[[registry]]\nprefix = "{prefix}"\nlocation = "{address}/{_path_of(prefix)}"\ninsecure = true\n'


class _Server(ThreadingHTTPServer):
    """Answers each connection in a thread of its own; `contents` is all there is, by path."""

    def __init__(self, contents: Mapping[str, _Content]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = contents
        self.requests: list[Request] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle of an answer is no fault of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request: as HTTP/1.0 has it, so that none outlives the registry."""

    server: _Server
    timeout = _SILENCE_SECONDS

    def handle(self) -> None:
        # Clients try TLS first, and then wait for an answer, while a line of HTTP is waited for here.
        if self.connection.recv(1, socket.MSG_PEEK) != _TLS_HANDSHAKE:
            super().handle()

    def do_GET(self) -> None:
        """Answers GET and HEAD."""
        path = unquote(urlsplit(self.path).path)
        if path == "/v2/":
            self._say(HTTPStatus.OK, b"{}")
        elif content := self.server.contents.get(path):
            self._send(content)
        else:
            self._say(HTTPStatus.NOT_FOUND, _error(_UNKNOWN.get(PurePosixPath(path).parent.name, "NAME_UNKNOWN")))

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        """Answers whatever would change something."""
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, _error("UNSUPPORTED"))

    do_POST = do_PATCH = do_DELETE = do_PUT  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing on stderr: `Registry.requests` has it."""

    def _send(self, content: _Content) -> None:
        headers = {"Content-Type": content.media_type, "Docker-Content-Digest": content.digest}
        self._begin(HTTPStatus.OK, content.size, headers)
        if self.command == "GET" and content.size:
            with content.archive.open("rb") as archive:
                self.connection.sendfile(archive, content.offset, content.size)

    def _say(self, status: HTTPStatus, body: bytes) -> None:
        self._begin(status, len(body), {"Content-Type": "application/json"})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: HTTPStatus, size: int, headers: Mapping[str, str]) -> None:
        self.server.requests.append(Request(self.command, self.path, status.value))
        self.send_response(status)
        for name, value in {"Content-Length": str(size), **headers}.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()


def _error(code: str) -> bytes:
    """Distribution specification, "Error Codes"."""
    return json.dumps({"errors": [{"code": code}]}).encode()


def _contents(archives: Iterable[Path]) -> Mapping[str, _Content]:
    """All that the archives hold, by the path under which a client asks for it."""
    contents: dict[str, _Content] = {}
    for archive in archives:
        for path, content in _paths(archive.absolute()):
            if contents.setdefault(path, content).digest != content.digest:
                raise HarnessError(
                    f"{archive} and {contents[path].archive} hold different images of one name: serve one of them"
                )
    return contents


def _paths(archive: Path) -> Iterator[tuple[str, _Content]]:
    try:
        layout = _Layout.read(archive)
        for descriptor in layout.index["manifests"]:
            name = reference.parse(_name(archive, descriptor.get("annotations") or {}))
            base = f"/v2/{_path_of(name.repository)}"
            yield f"{base}/manifests/{name.tag}", layout.manifest(descriptor["digest"])
            for digest in layout.manifests(descriptor["digest"]):
                yield f"{base}/manifests/{digest}", layout.manifest(digest)
            for digest, content in layout.blobs.items():
                yield f"{base}/blobs/{digest}", content
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(
            f"{archive} is no OCI archive ({type(error).__name__}: {error}): "
            "make it again with skopeo copy SOURCE oci-archive:FILE:HOST/PATH:TAG"
        ) from error


def _name(archive: Path, annotations: Mapping[str, str]) -> str:
    name = next((annotations[key] for key in _NAME_ANNOTATIONS if key in annotations), "")
    # Many tools leave only a tag there, which would read as a name.
    if "/" not in name:
        raise HarnessError(
            f"{archive} names its image {name!r}, not in full: "
            f"skopeo copy oci-archive:{archive} oci-archive:FILE:HOST/PATH:TAG names it"
        )
    return name


def _path_of(repository: str) -> str:
    """A repository or prefix, registry included, as a path of repositories: there a port's colon cannot be."""
    return repository.replace(":", "_").lower()


@dataclass(frozen=True)
class _Layout:
    """An OCI layout in a tar: its index, and the blobs by digest (image specification 1.1, image-layout)."""

    index: Mapping[str, Any]
    blobs: Mapping[str, _Content]

    @classmethod
    def read(cls, archive: Path) -> "_Layout":
        with tarfile.open(archive, "r:") as tar:
            entries = {str(PurePosixPath(entry.name)): entry for entry in tar if entry.isreg()}
            index = tar.extractfile(entries["index.json"])
            assert index is not None  # of a regular file
            parsed = json.loads(index.read())
        blobs = {}
        for name, entry in entries.items():
            if name.startswith("blobs/"):
                digest = name.removeprefix("blobs/").replace("/", ":")
                blobs[digest] = _Content(archive, entry.offset_data, entry.size, "application/octet-stream", digest)
        return cls(parsed, blobs)

    def manifest(self, digest: str) -> _Content:
        """A manifest or an index, with its media type: it names that itself, or its shape does."""
        media_type = self._json(digest).get("mediaType") or (_INDEX if "manifests" in self._json(digest) else _MANIFEST)
        return replace(self.blobs[digest], media_type=media_type)

    def manifests(self, digest: str) -> Iterator[str]:
        """The digests of a manifest or index and of all that it leads to: an archive need not hold every platform's."""
        yield digest
        for child in self._json(digest).get("manifests", []):
            if child["digest"] in self.blobs:
                yield from self.manifests(child["digest"])

    def _json(self, digest: str) -> Any:
        content = self.blobs[digest]
        with content.archive.open("rb") as archive:
            archive.seek(content.offset)
            return json.loads(archive.read(content.size))
