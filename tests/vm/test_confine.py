"""A confined program connects to the ports that are named and to no other, and takes connections as before."""

import socket
import subprocess
import sys

import pytest

from harness.vm import confine

pytestmark = pytest.mark.skipif(not confine.supported(), reason="this kernel has no landlock for networks")

_CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print('connected')"
_LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"


def confined(ports: list[int], *program: str) -> list[str]:
    return [sys.executable, "-S", "-E", confine.__file__, *map(str, ports), "--", sys.executable, "-c", *program]


@pytest.mark.parametrize("named", [True, False])
def test_only_a_named_port_can_be_connected_to(named: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ended = subprocess.run(
            confined([port] if named else [], _CONNECT, str(port)), capture_output=True, text=True, timeout=30, check=False
        )
    assert (ended.stdout == "connected\n") is named
    assert ("Permission denied" in ended.stderr) is not named


def test_connections_are_taken() -> None:
    with subprocess.Popen(confined([], _LISTEN), stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        with socket.create_connection(("127.0.0.1", int(program.stdout.readline())), timeout=10):
            assert program.wait(10) == 0
