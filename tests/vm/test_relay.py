"""The relay: bytes of a connection both ways, as a program of its own, and its end with either side's."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.vm import relay


@contextmanager
def relayed(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket, subprocess.Popen[bytes]]]:
    """The guest's end, the registry's, and the program between them."""
    guest, theirs = socket.socketpair()
    argv = [sys.executable, "-S", "-E", relay.__file__, str(listener.getsockname()[1])]
    with guest, theirs, subprocess.Popen(argv, stdin=theirs.fileno()) as program:
        theirs.close()
        registry, _ = listener.accept()
        with registry:
            registry.settimeout(10)
            guest.settimeout(10)
            yield guest, registry, program


def test_bytes_are_passed_both_ways_until_both_have_said_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, relayed(listener) as (guest, registry, program):
        guest.sendall(b"GET /v2/")
        guest.shutdown(socket.SHUT_WR)
        assert registry.recv(100) == b"GET /v2/"
        assert registry.recv(100) == b""
        registry.sendall(b"200" * 100_000)
        registry.shutdown(socket.SHUT_WR)
        assert sum(iter(lambda: len(guest.recv(65536)), 0)) == 300_000
        assert program.wait(10) == 0


def test_it_ends_with_a_guest_that_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, relayed(listener) as (guest, registry, program):
        guest.close()
        registry.close()
        program.wait(10)
