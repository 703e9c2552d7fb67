"""A confined program connects to the ports that are named and to no other, and takes connections as before."""

import socket
import subprocess
import sys
from types import SimpleNamespace

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


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_a_kernel_that_refuses_a_step_leaves_no_program_unconfined(monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    answers = [-1 if step == refused else 0 for step in range(3)]
    monkeypatch.setattr(confine, "supported", lambda: True)
    monkeypatch.setattr(confine, "_call", lambda *_: answers.pop(0))
    monkeypatch.setattr(confine.ctypes, "CDLL", lambda _: SimpleNamespace(prctl=lambda *_: 0))  # type: ignore[attr-defined]
    monkeypatch.setattr(confine.os, "close", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(SystemExit, match="refuses to deny"):
        confine.confine([4711])
