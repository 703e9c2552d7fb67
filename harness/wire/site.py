"""An HTTP server of the test's own, which a node reaches at one address, alone or in front of a registry of container images.

It is what a node fetches from when the fetching goes wrong: each answer can be another status, slow, cut short or corrupt.
TCP is QEMU's affair and this host's, so that nothing here is a protocol of its own making.
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
# What an answer of a registry's has to say of what follows (OCI distribution specification 1.1).
_KEPT = ("Content-Type", "Docker-Content-Digest", "WWW-Authenticate")


@dataclass(frozen=True)
class Answer:
    """An answer as it should be: its status, its body, and more headers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Trouble:
    """What goes wrong with answers, in words and done to one: as it is, nothing does.

    `answer` makes another of it, `pieces` sends its body.
    """

    def answer(self, answer: Answer) -> Answer:
        return answer

    def pieces(self, body: bytes) -> Iterator[bytes]:
        """The body in pieces, as they are sent: what is missing of it at the end is cut off with the connection."""
        yield from (body[at : at + _PIECE] for at in range(0, len(body), _PIECE))


class Status(Trouble):
    """Another status, and no body: 401, 404, 500, whichever."""

    def __init__(self, status: int) -> None:
        if not 100 <= status < 600:
            raise InputError(f"HTTP has no status {status}.")
        self._status = status

    def answer(self, _: Answer) -> Answer:
        headers = {"WWW-Authenticate": 'Basic realm="kios-e2e"'} if self._status == 401 else {}
        return Answer(self._status, b"", headers)


class Slow(Trouble):
    """So many bytes a second, and no more."""

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
    """One bit in the middle of the body turned over: what has a digest has another."""

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
        """Serves answers by their paths until the block ends; what has none is asked of the site behind, if there is one."""
        whole = {path: each if isinstance(each, Answer) else Answer(body=each) for path, each in (answers or {}).items()}
        server = _Server(whole)
        with loopback.serving(server, "site"):
            yield cls(server)

    @property
    def port(self) -> int:
        """Where it is on 127.0.0.1."""
        return self._server.server_port

    @property
    def asked(self) -> list[str]:
        """The requests so far."""
        return list(self._server.asked)

    def before(self, port: int | None) -> int:
        """Asks the server at this port of 127.0.0.1, such as a registry, for what the site does not have; returns its own."""
        self._server.behind = port
        return self.port

    def trouble(self, trouble: Trouble, pattern: str = "") -> None:
        """Has something go wrong, from now on, with the answers for paths in which the pattern is found."""
        try:
            compiled = re.compile(pattern)
        except re.error as wrong:
            raise InputError(f"{pattern!r} is no regular expression: {wrong}.") from wrong
        self._server.troubles = [*self._server.troubles, (compiled, trouble)]

    def recover(self) -> None:
        """Has nothing go wrong any more."""
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
    """A request."""

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
