"""A registry of container images from which nodes can pull: OCI distribution specification 1.1, pull only.

It serves images from OCI archives unchanged, with their digests, on the host's loopback; nodes reach it at a fixed address. A
repository's path here is the image's full name without its tag, registry included: docker.io/emilyls/parted is pulled as
198.51.100.1:5000/docker.io/emilyls/parted.
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
"""The path of a registry's configuration on a data partition; it is read in addition to the image's own."""

# RFC 9110, 14.1.2; no content is so large that more digits are needed.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_MOST_REQUESTS = 10_000
_UNKNOWN = {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN"}


@dataclass(frozen=True)
class Request:
    """A request and the status of its answer; `path` is as it was received."""

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
        """Serves images on a port that the kernel chooses until the block ends, and then ends all connections.

        Raises InputError if two different images have the same name.
        """
        server = _Server(_contents(images))
        with loopback.serving(server, "registry"):
            yield cls(server)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.server_port

    @property
    def requests(self) -> Sequence[Request]:
        """The last 10,000 requests, in the order of their answers."""
        return tuple(self._server.requests)

    @staticmethod
    def configuration(address: str, prefixes: Iterable[str]) -> bytes:
        """A containers-registries.conf(5) that makes a node pull all images with these prefixes from here, without TLS.

        `address` is HOST:PORT as the node reaches this registry. A prefix is a registry, with or without a path:
        `docker.io/emilyls`. Such an image is looked for only here: unlike with a mirror, one that is missing is not pulled from
        the internet instead. Raises InputError for an invalid prefix.
        """
        return "\n".join(_remapped(address, prefix) for prefix in dict.fromkeys(prefixes)).encode()


def _remapped(address: str, prefix: str) -> str:
    if not reference.is_prefix(prefix):
        raise InputError(f"{prefix!r} is no prefix of names of images: give HOST or HOST/PATH, without a tag or a scheme")
    return f'[[registry]]\nprefix = "{prefix}"\nlocation = "{address}/{_path_of(prefix)}"\ninsecure = true\n'


class _Server(loopback.Server):
    """Serves `contents`, by path."""

    def __init__(self, contents: Mapping[str, _Content]) -> None:
        super().__init__(_Handler)
        self.contents = contents
        self.requests: deque[Request] = deque(maxlen=_MOST_REQUESTS)


class _Handler(loopback.Handler):
    """Answers one request."""

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
        """Refuses whatever would change something."""
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
        """The range asked for, empty if it is outside the content; None for all (RFC 9110, 14.2; only GET of one range)."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        # The validators that If-Range compares are never sent here.
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
    """Everything that belongs to the images, by the path of a client's request."""
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
    """A repository or prefix, registry included, as the path of a repository, in which a port's colon is not allowed."""
    return repository.replace(":", "_").lower()
