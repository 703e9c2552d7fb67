"""A machine protocol that falls silent while QEMU runs: a relay on the way to it that passes nothing on any more."""

import select
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.sabotage import Act
from harness.verdict.feed import Feed
from harness.vm.qmp import Qmp

_MOST_BYTES = 1 << 16


class Relay:
    """Passes on what either side of a socket says, until it is muted: it still takes all that comes then."""

    def __init__(self, theirs: socket.socket) -> None:
        self.ours, self._inner = socket.socketpair()
        self._theirs = theirs
        self._muted = threading.Event()
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def mute(self) -> None:
        """Passes nothing on from now on."""
        self._muted.set()

    def _run(self) -> None:
        ways = {self._inner: self._theirs, self._theirs: self._inner}
        with self._inner, self._theirs:
            while True:
                for end in select.select(list(ways), [], [])[0]:
                    try:
                        said = end.recv(_MOST_BYTES)
                        if not said:
                            return
                        if not self._muted.is_set():
                            ways[end].sendall(said)
                    except OSError:
                        return


def relayed(patch: pytest.MonkeyPatch) -> dict[Qmp, Relay]:
    """Has the protocol of each QEMU from now on go by a relay; the relays of all of them, as they come."""
    relays: dict[Qmp, Relay] = {}
    begin = Qmp.__init__

    def begun(qmp: Qmp, sock: socket.socket, feed: Feed, transcript: Path) -> None:
        relays[qmp] = Relay(sock)
        begin(qmp, relays[qmp].ours, feed, transcript)

    patch.setattr(Qmp, "__init__", begun)
    return relays


@dataclass(frozen=True)
class MuteQmp:
    """Each node's falls silent as soon as the scenario has it up."""

    def described(self) -> str:
        return "QMP says nothing any more, and QEMU runs on"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        relays = relayed(patch)
        Act(self.described(), lambda node: relays[node.boot.qmp].mute()).apply(patch)
