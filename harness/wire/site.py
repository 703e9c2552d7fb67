"""The test's own HTTP server, which a node reaches at one address, alone or in front of a registry of container images.

It is for downloads that go wrong: each answer can have another status, or be slow, cut short or corrupt. TCP is left to QEMU
and this host.
"""

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness import loopback
from harness.errors import InputError

_BEHIND_SECONDS = 30
_PIECE = 16 << 10
_MOST_KEPT = 10_000
# The headers of a registry's answer that its clients need (OCI distribution specification 1.1).
_KEPT = ("Content-Type", "Docker-Content-Digest", "WWW-Authenticate")


@dataclass(frozen=True)
class Answer:
    """A correct answer: its status, its body, and more headers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Trouble:
    """What goes wrong with answers; this base class changes nothing.

    `answer` replaces the answer, `pieces` sends its body.
    """

    def answer(self, answer: Answer) -> Answer:
        return answer

    def pieces(self, body: bytes) -> Iterator[bytes]:
        """The body in pieces as they are sent; if some of it is missing at the end, the connection is cut there."""
        yield from (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))


class Status(Trouble):
    """Another status, such as 401, 404 or 500, and no body."""

    def __init__(self, status: int) -> None:
        if not 100 <= status < 600:
            raise InputError(f"HTTP has no status {status}.")
        self._status = status

    def answer(self, _: Answer) -> Answer:
        headers = {"WWW-Authenticate": 'Basic realm="kios-e2e"'} if self._status == 401 else {}
        return Answer(self._status, b"", headers)


class Slow(Trouble):
    """A limited number of bytes per second."""

    def __init__(self, bytes_per_second: int) -> None:
        if bytes_per_second < 1:
            raise InputError(f"{bytes_per_second} bytes a second never end: give 1 or more.")
        self._rate = bytes_per_second

    def pieces(self, body: bytes) -> Iterator[bytes]:
        step = max(1, self._rate // 10)
        for at in range(0, len(body), step):
            time.sleep(step / self._rate)
            yield body[at : at + step]


class Truncated(Trouble):
    """The first half of the body, and then the connection's end."""

    def pieces(self, body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]


class Corrupt(Trouble):
    """One bit in the middle of the body is flipped, so that its digest is wrong."""

    def answer(self, answer: Answer) -> Answer:
        body = bytearray(answer.body)
        if body:
            body[len(body) // 2] ^= 1
        return Answer(answer.status, bytes(body), answer.headers)


class Site:
    """A site that is being served at a port of 127.0.0.1; `asked` are the requests as `GET /path`."""

    def __init__(self, server: "_Server") -> None:
        """For `serve`."""
        self._server = server

    @classmethod
    @contextmanager
    def serve(cls, answers: Mapping[str, Answer | bytes] | None = None) -> Iterator["Site"]:
        """Serves answers, by path, until the block ends; for other paths it asks the server behind it, if there is one."""
        whole = {path: each if isinstance(each, Answer) else Answer(body=each) for path, each in (answers or {}).items()}
        server = _Server(whole)
        with loopback.serving(server, "site"):
            yield cls(server)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.server_port

    @property
    def asked(self) -> list[str]:
        """The requests so far."""
        return list(self._server.asked)

    def before(self, port: int | None) -> int:
        """Puts the site in front of the server at this port of 127.0.0.1, such as a registry; returns the site's own port."""
        self._server.behind = port
        return self.port

    def trouble(self, trouble: Trouble, pattern: str = "") -> None:
        """Makes something go wrong, from now on, with the answers for paths that contain the pattern."""
        try:
            compiled = re.compile(pattern)
        except re.error as wrong:
            raise InputError(f"{pattern!r} is no regular expression: {wrong}.") from wrong
        self._server.troubles = [*self._server.troubles, (compiled, trouble)]

    def recover(self) -> None:
        """Ends all troubles."""
        self._server.troubles = []


class _Server(loopback.Server):
    # A slow answer does not hold up the end.
    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        super().__init__(_Handler)
        self.answers = answers
        self.behind: int | None = None
        self.troubles: list[tuple[re.Pattern[str], Trouble]] = []
        self.asked: list[str] = []


class _Handler(loopback.Handler):
    """Answers one request."""

    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - http.server finds it by its name
        """Answers GET and HEAD."""
        self.server.asked = [*self.server.asked, f"{self.command} {self.path}"][-_MOST_KEPT:]
        trouble = next((each for pattern, each in self.server.troubles if pattern.search(self.path)), Trouble())
        answer = trouble.answer(self.server.answers.get(self.path) or self._from_behind())
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in trouble.pieces(answer.body):
                self.wfile.write(piece)

    do_HEAD = do_GET  # noqa: N815

    def _from_behind(self) -> Answer:
        if self.server.behind is None:
            return Answer(404)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=_BEHIND_SECONDS)
        try:
            headers = {"Accept": self.headers["Accept"]} if "Accept" in self.headers else {}
            connection.request(self.command, self.path, headers=headers)
            said = connection.getresponse()
            kept = {name: said.headers[name] for name in _KEPT if name in said.headers}
            if self.command == "HEAD":
                kept["Content-Length"] = said.headers.get("Content-Length", "0")
            return Answer(said.status, said.read(), kept)
        except (OSError, http.client.HTTPException):
            return Answer(502)
        finally:
            connection.close()
