"""A debugger on a node's CPU, by QEMU's own stub: what nothing on a node does to its kernel (GDB, Remote Serial Protocol)."""

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.lab.node import Node

_WITHIN = 10.0
_APART_SECONDS = 0.05
# Registers of x86-64 in the order in which the stub tells them: 16 of 8 bytes, then RIP, which is number 16.
_RIP, _RIP_NUMBER = slice(16 * 16, 17 * 16), "10"
# cli; jmp to itself
_FOR_EVER = "faebfe"


class Debugger:
    """The stub's other end; the machine stands still while it is asked something."""

    def __init__(self, stub: socket.socket) -> None:
        self._stub = stub
        self._heard = b""

    def ask(self, command: str) -> str:
        """Sends a command and returns the answer."""
        self._stub.sendall(f"${command}#{sum(command.encode()) % 256:02x}".encode())
        while True:
            begin, end = self._heard.find(b"$"), self._heard.find(b"#")
            if 0 <= begin < end <= len(self._heard) - 3:
                answer, self._heard = self._heard[begin + 1 : end], self._heard[end + 3 :]
                self._stub.sendall(b"+")
                return answer.decode()
            received = self._stub.recv(4096)
            assert received, "the debugger's stub hung up"
            self._heard += received

    def instruction(self) -> int:
        """Where the CPU is: RIP."""
        return int.from_bytes(bytes.fromhex(self.ask("g")[_RIP]), "little")


def on_kernel(do: Callable[[Debugger], object]) -> Callable[[Node], None]:
    """What a node suffers to which this is done while its CPU is in the kernel."""

    def suffer(node: Node) -> None:
        with tempfile.TemporaryDirectory(prefix="kios-e2e-") as folder:
            place = Path(folder) / "stub"
            node.boot.qmp.execute("human-monitor-command", {"command-line": f"gdbserver unix:{place},server=on,wait=off"})
            while not _done(place, do):
                time.sleep(_APART_SECONDS)
        # That it stood still meanwhile is no verdict on what was done.
        with contextlib.suppress(HarnessError):
            node.boot.check("the debugger's end")

    return suffer


def _done(place: Path, do: Callable[[Debugger], object]) -> bool:
    """Does it, if the CPU is in the kernel: in the upper half of the addresses."""
    with socket.socket(socket.AF_UNIX) as stub:
        stub.settimeout(_WITHIN)
        stub.connect(str(place))
        debugger = Debugger(stub)
        is_in_kernel = bool(debugger.instruction() >> 63)
        if is_in_kernel:
            do(debugger)
        debugger.ask("D")
        return is_in_kernel


def lead_astray(debugger: Debugger) -> None:
    """The kernel goes on where there is no code."""
    assert debugger.ask(f"P{_RIP_NUMBER}={bytes(8).hex()}") == "OK"


def hang(debugger: Debugger) -> None:
    """The kernel goes round in a loop and hears no interrupt."""
    assert debugger.ask(f"M{debugger.instruction():x},{len(_FOR_EVER) // 2}:{_FOR_EVER}") == "OK"
