"""The network of one running machine, in the test's hands.

Each verb has taken effect on the machine when it returns; the guest notices in its own time.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.errors import HarnessError, InputError
from harness.verdict.feed import Feed
from harness.verdict.timeline import Milestone
from harness.vm.machine import CAPTURE, LOOPBACK, NETWORK, REGISTRY, SLOT
from harness.vm.qmp import Qmp
from harness.wire.cable import Cable, Ends
from harness.wire.fault import Corrupt, Delay, Drop, Duplicate, Fault, Lose, Mtu, Reorder
from harness.wire.grant import Edit, Grant
from harness.wire.match import Match, everything
from harness.wire.station import Bystander, Neighbour

if TYPE_CHECKING:
    from harness.wire.dhcp_server import DhcpServer
    from harness.wire.name_server import NameServer, Refusal
    from harness.wire.time_server import TimeServer

F = TypeVar("F", bound=Fault)
N = TypeVar("N", bound=Neighbour)

_HOLE = "hole"
_MOST_CAPTURED = 512 << 20
_LOOK_SECONDS = 2.0
# QEMU's filters, in the order in which they are added, each in front of those before it. Frames from the guest pass them from
# the last to the first, frames to the guest from the first to the last. So what the test takes out in either direction is put
# back after the place where it was taken, and the capture has everything as the guest's NIC sees it.
_FILTERS = {
    "to_guest": ("tx", "indev"),
    "from_network": ("tx", "outdev"),
    "from_guest": ("rx", "outdev"),
    "to_network": ("rx", "indev"),
}
# A line of QEMU's table of connections: the port on this host, then the guest's address and port.
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<here>\d+)\s+\S+\s+(?P<guest>\d+)")


class Wire:
    """The network of one running machine; `feed` has what is heard of the machine, and QEMU writes `capture`.

    Capturing stops when `capture` exceeds `most` bytes, because a guest could fill this host's disk.
    """

    def __init__(self, qmp: Qmp, feed: Feed, capture: Path, most: int = _MOST_CAPTURED) -> None:
        self._qmp, self._feed = qmp, feed
        self._cable: Cable | None = None
        self._site: int | None = None
        self._captures = True
        self._plugged = True
        self._closing = threading.Event()
        threading.Thread(target=self._bound, args=(capture, most), name="capture", daemon=True).start()

    def unplug(self) -> None:
        """Unplugs the cable: the guest sees no carrier."""
        self._qmp.execute("set_link", {"name": NETWORK, "up": False})
        self._plugged = False

    def plug(self) -> None:
        """Plugs the cable in again."""
        self._qmp.execute("set_link", {"name": NETWORK, "up": True})
        self._plugged = True

    @property
    def is_unplugged(self) -> bool:
        """Whether the cable is unplugged."""
        return not self._plugged

    def flap(self, milestone: Milestone, seconds: float) -> None:
        """Unplugs the cable when the node next passes a milestone, and plugs it in again after so many seconds."""
        position = self._feed.position()

        def flap() -> None:
            # The machine may end meanwhile, which is no failure.
            with contextlib.suppress(HarnessError):
                if self._passes(milestone, position):
                    self.unplug()
                    self._closing.wait(seconds)
                    self.plug()

        threading.Thread(target=flap, name="flap", daemon=True).start()

    def block(self) -> None:
        """Lets nothing through, but keeps the carrier: a network on which nobody answers, not even DHCP."""
        self._qmp.execute("chardev-add", {"id": _HOLE, "backend": {"type": "null", "data": {}}})
        # Next to the capture, which so still has what the guest sends.
        place = {"position": f"id={CAPTURE}", "insert": "before"} if self._captures else {"position": "tail"}
        hole = {"qom-type": "filter-redirector", "id": _HOLE, "netdev": NETWORK, "queue": "all", **place}
        self._qmp.execute("object-add", {**hole, "outdev": _HOLE})

    def unblock(self) -> None:
        """Lets everything through again."""
        self._qmp.execute("object-del", {"id": _HOLE})
        self._qmp.execute("chardev-remove", {"id": _HOLE})

    def drop(self, match: Match, first: int | None = None) -> Fault:
        """Loses the frames that match, or the `first` so many of them, until the fault is mended."""
        return self._inflict(Drop(match, first))

    def lose(self, share: float, seed: int, match: Match = everything) -> Fault:
        """Loses a share of the frames, from 0 to 1, until the fault is mended."""
        return self._inflict(Lose(match, share, seed))

    def delay(self, match: Match, seconds: float, first: int | None = None) -> Fault:
        """Delays the frames that match, or the `first` so many of them, until the fault is mended."""
        return self._inflict(Delay(match, first, seconds))

    def slow(self, seconds: float, jitter: float, seed: int) -> Fault:
        """Delays every frame, in both directions, by `seconds` and up to `jitter` seconds more, until the fault is mended."""
        return self._inflict(Delay(everything, None, seconds, jitter, seed))

    def corrupt(self, match: Match, seed: int, first: int | None = None) -> Fault:
        """Flips one bit in each frame that matches, or in the `first` so many of them, until the fault is mended."""
        return self._inflict(Corrupt(match, first, seed))

    def duplicate(self, match: Match, first: int | None = None) -> Fault:
        """Doubles the frames that match, or the `first` so many of them, until the fault is mended."""
        return self._inflict(Duplicate(match, first))

    def reorder(self, match: Match, first: int | None = None) -> Fault:
        """Lets the next frame overtake each that matches, or the `first` so many of them, until the fault is mended."""
        return self._inflict(Reorder(match, first))

    def mtu(self, size: int) -> Fault:
        """Loses packets longer than so many bytes, until the fault is mended."""
        return self._inflict(Mtu(size))

    def dhcp(self, grant: Grant | None = None, *edits: Edit, address: str = "10.0.2.2") -> "DhcpServer":
        """Replaces QEMU's DHCP server by one with this address, until it leaves; its answers go through `edits`.

        Another call adds a second server. The default grant is that of QEMU's server.
        """
        # Imported here, because it needs scapy.
        from harness.wire.dhcp_server import DhcpServer

        return self.join(DhcpServer(grant or Grant(), edits, address))

    def occupy(self, address: str, mac: str = "52:54:00:00:00:77") -> Neighbour:
        """Puts a host with this address on the guest's network, until it leaves."""
        return self.join(Bystander(address, mac))

    def dns(self, names: "Mapping[str, str | Refusal]") -> "NameServer":
        """Answers all questions for addresses, whichever server they are sent to, until it leaves; see `NameServer`."""
        from harness.wire.name_server import NameServer

        return self.join(NameServer(names))

    def ntp(self, ahead: float = 0.0) -> "TimeServer":
        """Answers requests to any NTP server with a time so many seconds ahead of this host's, until it leaves."""
        from harness.wire.time_server import TimeServer

        return self.join(TimeServer(ahead))

    def redirect(self, port: int) -> Fault:
        """Redirects connections to a TCP port, at any address beyond the guest's own link, to the node's site until mended."""
        from harness.wire.redirect import Redirect

        if self._site is None:
            raise InputError("The node has no site to which connections could be led.")
        return self._inflict(Redirect(port, (LOOPBACK, self._site)))

    def serve(self, port: int) -> None:
        """Makes the server at a port of 127.0.0.1 the node's registry or site, at `REGISTRY`, for the rest of the run.

        From then on every frame passes through the test's hands, because QEMU has no way to serve an address of its network
        that could be allowed to the host's kernel beforehand (see `confine`).
        """
        self._site = port
        self.redirect(REGISTRY[1])

    def join(self, neighbour: N) -> N:
        """Puts a neighbour on the guest's network, until it leaves."""
        cable = self._laid()

        def leave(leaving: Neighbour) -> None:
            cable.leave(leaving)
            cable.check()

        neighbour.on_leave = leave
        cable.join(neighbour)
        return neighbour

    def say(self, content: bytes) -> None:
        """Sends an Ethernet frame to the guest."""
        self._laid().say(content)

    def forward(self, port: int) -> int:
        """Forwards a port on 127.0.0.1 to a TCP port of the guest, and returns it; raises HarnessError if QEMU refuses."""
        if not 0 < port < 1 << 16:
            raise InputError(f"There is no TCP port {port}.")
        before = self.forwarded()
        said = self._ask(f"hostfwd_add {NETWORK} tcp:127.0.0.1:0-:{port}")
        added = [here for here, there in self.forwarded().items() if here not in before and there == port]
        if len(added) != 1:
            raise HarnessError(f"QEMU forwards nothing to port {port} of the guest: {said.strip() or 'without a word'}")
        return added[0]

    def reach(self, port: int) -> int:
        """The port on 127.0.0.1 that QEMU forwards to a TCP port of the guest, already or from now on."""
        here = next((here for here, there in self.forwarded().items() if there == port), None)
        return self.forward(port) if here is None else here

    def forwarded(self) -> dict[int, int]:
        """The forwarded ports on 127.0.0.1, each with the guest's port to which it leads."""
        return {int(found["here"]): int(found["guest"]) for found in _FORWARD.finditer(self._ask("info usernet"))}

    def insert_card(self, driver: str, mac: str) -> None:
        """Puts a NIC into the free slot of the running machine; `driver` is QEMU's name for it, such as `igb`."""
        self._qmp.execute("device_add", {"driver": driver, "id": "card", "bus": SLOT, "mac": mac})

    def close(self) -> None:
        """Ends what the test does to the network; the machine has ended, or ends next."""
        self._closing.set()
        if self._cable:
            self._cable.close()

    def _inflict(self, fault: F) -> F:
        cable = self._laid()

        def mend(mended: Fault) -> None:
            cable.take_out(mended)
            cable.check()

        fault.on_mend = mend
        cable.put_in(fault)
        return fault

    def _laid(self) -> Cable:
        """The cable through the test's hands; it is laid at its first use, so that until then nothing depends on the test."""
        if self._cable is None:
            with contextlib.ExitStack() as theirs:
                ours = {}
                for name in _FILTERS:
                    ours[name], other = socket.socketpair()
                    theirs.enter_context(other)
                    self._qmp.hand_over(other.fileno(), f"cable-{name}")
                    backend = {"addr": {"type": "fd", "data": {"str": f"cable-{name}"}}, "server": False}
                    self._qmp.execute("chardev-add", {"id": f"cable-{name}", "backend": {"type": "socket", "data": backend}})
            self._cable = Cable(Ends(**ours))
            for name, (queue, role) in _FILTERS.items():
                place = {"netdev": NETWORK, "queue": queue, "position": "head"}
                redirector = {"qom-type": "filter-redirector", "id": f"cable-{name}", **place}
                self._qmp.execute("object-add", {**redirector, role: f"cable-{name}"})
        return self._cable

    def _bound(self, capture: Path, most: int) -> None:
        # The machine may end meanwhile, and its file may be removed.
        with contextlib.suppress(HarnessError, OSError):
            while not self._closing.wait(_LOOK_SECONDS):
                if capture.exists() and capture.stat().st_size > most:
                    self._captures = False
                    self._qmp.execute("object-del", {"id": CAPTURE})
                    return

    def _passes(self, milestone: Milestone, position: int) -> bool:
        """Waits until a milestone is passed; returns False if the machine ends first."""
        while not self._closing.is_set():
            happenings, position = self._feed.read(position)
            if any(milestone.passed(happening) for happening in happenings):
                return True
            self._feed.wait_beyond(position, 1.0)
        return False

    def _ask(self, command: str) -> str:
        return str(self._qmp.execute("human-monitor-command", {"command-line": command}))
