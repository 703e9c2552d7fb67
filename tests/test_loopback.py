"""What is served on the loopback is bounded, ends with its block, and hides no fault of whoever answers."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from harness import loopback
from harness.loopback import Handler, Server


class Answering(Handler):
    """Says its path back."""

    def do_GET(self) -> None:  # noqa: N802 - http.server finds it by its name
        if self.path == "/fault":
            raise KeyError("a fault of the test's own")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())


@pytest.fixture
def port() -> Iterator[int]:
    server = Server(Answering)
    with loopback.serving(server, "answering"):
        yield server.server_port


def ask(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_it_ends_with_its_block_whoever_is_connected() -> None:
    server = Server(Answering)
    with contextlib.ExitStack() as clients:
        with loopback.serving(server, "answering"):
            client = clients.enter_context(connected(server.server_port))
            assert ask(server.server_port, "/a") == b"/a"
            began = time.monotonic()
        assert time.monotonic() - began < loopback._SILENCE_SECONDS / 2, "nobody waited for"
        assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connected(server.server_port)
    assert not [each for each in threading.enumerate() if each.name == "answering" or "process_request" in each.name]


def test_connections_that_are_too_many_end_at_once(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_MOST_CONNECTIONS", 2)
    with connected(port), connected(port), connected(port) as third:
        assert third.recv(1) == b""


def test_a_client_that_goes_away_leaves_no_words_and_a_fault_does(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with connected(port) as client:
        client.sendall(b"GET /a")
    assert ask(port, "/b") == b"/b"
    assert capfd.readouterr().err == ""
    with pytest.raises(http.client.RemoteDisconnected):
        ask(port, "/fault")
    assert 'KeyError: "a fault of the test\'s own"' in capfd.readouterr().err
