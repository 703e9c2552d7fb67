"""HTTP on this host's loopback for untrusted guests, served until a block ends."""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LOOK_SECONDS = 0.05
_SILENCE_SECONDS = 30
_MOST_CONNECTIONS = 64
_TLS_HANDSHAKE = b"\x16"  # RFC 8446, 5.1: the first byte of a record


class Handler(BaseHTTPRequestHandler):
    """One request per connection, as in HTTP/1.0, so that no connection outlives its server."""

    timeout = _SILENCE_SECONDS

    def handle(self) -> None:
        # A registry's client tries TLS first and waits for an answer, while this end would wait for a line of HTTP.
        if self.connection.recv(1, socket.MSG_PEEK) != _TLS_HANDSHAKE:
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing on stderr: each server remembers its requests."""


class Server(ThreadingHTTPServer):
    """Listens on a port of 127.0.0.1 that the kernel chooses, and answers each connection in a thread of its own."""

    # `server_close` waits for the threads; `cut_off` has ended their connections before.
    daemon_threads = False

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Closes connections beyond a limit at once: a guest may open as many as it likes."""
        with self._changing:
            if taken := len(self._open) < _MOST_CONNECTIONS:
                self._open.add(request)
        if taken:
            super().process_request(request, client_address)
        else:
            super().shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection."""
        with self._changing:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_off(self) -> None:
        """Ends all connections, so that their threads end too."""
        with self._changing:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores a client that goes away in the middle of an answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(server: Server, name: str) -> Iterator[None]:
    """Runs a server until the block ends, and then ends all its connections; `name` is that of its thread."""
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.cut_off()
        server.server_close()
