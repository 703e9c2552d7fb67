"""A registry of container images that nodes can pull from: OCI distribution specification 1.1, pull only.

It serves images of OCI archives as they are, digests and all, on the host's loopback, which QEMU's user network gives its
nodes at a fixed address of their own. A repository's path here is the whole name of the image without its tag, registry
included: docker.io/emilyls/parted is pulled as 198.51.100.1:5000/docker.io/emilyls/parted.
"""

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from harness import loopback
from harness.containers import reference
from harness.containers.archive import ArchivedImage, Blob
from harness.errors import InputError

CONFIGURATION = PurePosixPath("/meta/etc/containers/registries.conf.d/kios-e2e.conf")
"""Where a registry's configuration goes on a data partition: read beside what the image has of its own."""

# RFC 9110, 14.1.2; nothing has so many bytes that more digits are needed.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_MOST_REQUESTS = 10_000
_UNKNOWN = {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}


@dataclass(frozen=True)
class Request:
    """What was asked and how it was answered; `path` as it came."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class _Content:
    """A blob, its digest, and the archive that it is in."""

    archive: Path
    digest: str
    blob: Blob


class Registry:
    """A registry that is being served."""

    def __init__(self, server: "_Server") -> None:
        """For `serve`."""
        self._server = server

    @classmethod
    @contextmanager
    def serve(cls, images: Iterable[ArchivedImage]) -> Iterator["Registry"]:
        """Serves images until the block ends, on a port that the kernel chooses; with it end all connections.

        InputError if two are different images of one name.
        """
        server = _Server(_contents(images))
        with loopback.serving(server, "registry"):
            yield cls(server)

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self._server.server_port

    @property
    def requests(self) -> Sequence[Request]:
        """What was asked so far, in the order of the answers; of more than 10,000 requests the last."""
        return tuple(self._server.requests)

    @staticmethod
    def configuration(address: str, prefixes: Iterable[str]) -> bytes:
        """A containers-registries.conf(5) by which a node pulls all images with these prefixes from here, without TLS.

        `address` is HOST:PORT as the node reaches this. A prefix is a registry, with or without a path: `docker.io/emilyls`.
        This is the only place where such an image is looked for: one that is missing here is not pulled from the internet
        instead, as it would be behind a mirror.
        InputError if a prefix is none.
        """
        return "\n".join(_remapped(address, prefix) for prefix in dict.fromkeys(prefixes)).encode()


def _remapped(address: str, prefix: str) -> str:
    if not reference.is_prefix(prefix):
        raise InputError(f"{prefix!r} is no prefix of names of images: give HOST or HOST/PATH, without a tag or a scheme")
    return f'[[registry]]\nprefix = "{prefix}"\nlocation = "{address}/{_path_of(prefix)}"\ninsecure = true\n'


class _Server(loopback.Server):
    """`contents` is all there is, by path."""

    def __init__(self, contents: Mapping[str, _Content]) -> None:
        super().__init__(_Handler)
        self.contents = contents
        self.requests: deque[Request] = deque(maxlen=_MOST_REQUESTS)


class _Handler(loopback.Handler):
    """A request."""

    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - http.server finds it by its name
        """Answers GET and HEAD."""
        path = unquote(urlsplit(self.path).path)
        if path in ("/v2", "/v2/"):
            self._say(HTTPStatus.OK, b"{}")
        elif content := self.server.contents.get(path):
            self._send(content)
        else:
            self._say(HTTPStatus.NOT_FOUND, _error(_UNKNOWN.get(PurePosixPath(path).parent.name, "NAME_UNKNOWN")))

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:  # noqa: N802
        """Answers whatever would change something."""
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, _error("UNSUPPORTED"))

    do_POST = do_PATCH = do_DELETE = do_PUT  # noqa: N815

    def _send(self, content: _Content) -> None:
        blob = content.blob
        headers = {"Content-Type": blob.media_type, "Docker-Content-Digest": content.digest, "Accept-Ranges": "bytes"}
        wanted = self._range(blob.size)
        if wanted is None:
            self._begin(HTTPStatus.OK, blob.size, headers)
            wanted = range(blob.size)
        elif not wanted:
            self._say(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, _error("UNSUPPORTED"), {"Content-Range": f"bytes */{blob.size}"}
            )
            return
        else:
            there = f"bytes {wanted.start}-{wanted.stop - 1}/{blob.size}"
            self._begin(HTTPStatus.PARTIAL_CONTENT, len(wanted), {**headers, "Content-Range": there})
        if self.command == "GET" and wanted:
            with content.archive.open("rb") as archive:
                self.connection.sendfile(archive, blob.offset + wanted.start, len(wanted))

    def _range(self, size: int) -> range | None:
        """The bytes that are asked for, empty if there are none such; None for all (RFC 9110, 14.2: GET of one range only)."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        # What If-Range compares is never sent here.
        if self.command != "GET" or not match or "If-Range" in self.headers:
            return None
        first, last = (int(number) if number else None for number in match.groups())
        if first is None:
            return None if last is None else range(max(0, size - last), size)
        if last is not None and last < first:
            return None
        return range(first, size if last is None else min(last + 1, size))

    def _say(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._begin(status, len(body), {"Content-Type": "application/json", **(headers or {})})
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


def _contents(images: Iterable[ArchivedImage]) -> Mapping[str, _Content]:
    """All that belongs to the images, by the path under which a client asks for it."""
    contents: dict[str, _Content] = {}
    for image in images:
        for path, digest in _paths(image):
            content = _Content(image.archive, digest, image.blobs[digest])
            if contents.setdefault(path, content).digest != digest:
                raise InputError(
                    f"{image.archive} and {contents[path].archive} hold different images of one name: serve one of them"
                )
    return contents


def _paths(image: ArchivedImage) -> Iterator[tuple[str, str]]:
    for name in image.names:
        base = f"/v2/{_path_of(name.repository)}"
        yield f"{base}/manifests/{name.tag}", image.documents[0]
        for digest in image.documents:
            yield f"{base}/manifests/{digest}", digest
        for digest in image.blobs:
            yield f"{base}/blobs/{digest}", digest


def _path_of(repository: str) -> str:
    """A repository or prefix, registry included, as a path of repositories: there a port's colon cannot be."""
    return repository.replace(":", "_").lower()
