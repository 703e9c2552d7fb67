"""The network of one running machine: what a person with a hand on its cable can do.

The verbs come in pairs; each is done when it returns, as far as the machine goes: the guest notices in its own time.
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
# What frames of the guest's pass through, in the order in which they are added, each in front of those before: the guest's own
# pass from the last to the first, what is for the guest from the first to the last. So what the test takes, on either way, is
# given back behind where it was taken, and all of it is in the capture as the guest's NIC has it.
_FILTERS = {
    "to_guest": ("tx", "indev"),
    "from_network": ("tx", "outdev"),
    "from_guest": ("rx", "outdev"),
    "to_network": ("rx", "indev"),
}
# A line of QEMU's table of connections: the port on this host, then the guest's address and port.
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<here>\d+)\s+\S+\s+(?P<guest>\d+)")


class Wire:
    """The network of one running machine, of which `feed` hears, and of which QEMU writes `capture`.

    A capture that grows beyond `most` bytes is not written on: a guest could fill this host's disk.
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
        """Takes the cable out: the guest sees no carrier."""
        self._qmp.execute("set_link", {"name": NETWORK, "up": False})
        self._plugged = False

    def plug(self) -> None:
        """Puts the cable back."""
        self._qmp.execute("set_link", {"name": NETWORK, "up": True})
        self._plugged = True

    @property
    def is_unplugged(self) -> bool:
        """Whether the cable is out."""
        return not self._plugged

    def flap(self, milestone: Milestone, seconds: float) -> None:
        """Takes the cable out when the node passes a milestone from now on, and puts it back after so many seconds."""
        position = self._feed.position()

        def flap() -> None:
            # The machine may end meanwhile, and then nobody is to be told.
            with contextlib.suppress(HarnessError):
                if self._passes(milestone, position):
                    self.unplug()
                    self._closing.wait(seconds)
                    self.plug()

        threading.Thread(target=flap, name="flap", daemon=True).start()

    def block(self) -> None:
        """Lets nothing through, with the carrier still there: a network on which nobody answers, DHCP included."""
        self._qmp.execute("chardev-add", {"id": _HOLE, "backend": {"type": "null", "data": {}}})
        # Next to the capture, which then has what the guest sends before it is swallowed.
        place = {"position": f"id={CAPTURE}", "insert": "before"} if self._captures else {"position": "tail"}
        hole = {"qom-type": "filter-redirector", "id": _HOLE, "netdev": NETWORK, "queue": "all", **place}
        self._qmp.execute("object-add", {**hole, "outdev": _HOLE})

    def unblock(self) -> None:
        """Lets everything through again."""
        self._qmp.execute("object-del", {"id": _HOLE})
        self._qmp.execute("chardev-remove", {"id": _HOLE})

    def drop(self, match: Match, first: int | None = None) -> Fault:
        """Loses the frames that match, or the first of them, until the fault is mended."""
        return self._inflict(Drop(match, first))

    def lose(self, share: float, seed: int, match: Match = everything) -> Fault:
        """Loses a share of the frames, from 0 to 1, until the fault is mended."""
        return self._inflict(Lose(match, share, seed))

    def delay(self, match: Match, seconds: float, first: int | None = None) -> Fault:
        """Has the frames that match, or the first of them, come later, until the fault is mended."""
        return self._inflict(Delay(match, first, seconds))

    def slow(self, seconds: float, jitter: float, seed: int) -> Fault:
        """Gives every frame, each way, a latency of `seconds` and up to `jitter` seconds more, until the fault is mended."""
        return self._inflict(Delay(everything, None, seconds, jitter, seed))

    def corrupt(self, match: Match, seed: int, first: int | None = None) -> Fault:
        """Turns one bit over in each frame that matches, or in the first of them, until the fault is mended."""
        return self._inflict(Corrupt(match, first, seed))

    def duplicate(self, match: Match, first: int | None = None) -> Fault:
        """Has the frames that match, or the first of them, come twice, until the fault is mended."""
        return self._inflict(Duplicate(match, first))

    def reorder(self, match: Match, first: int | None = None) -> Fault:
        """Has the frames that match, or the first of them, be overtaken by the next, until the fault is mended."""
        return self._inflict(Reorder(match, first))

    def mtu(self, size: int) -> Fault:
        """Loses packets of more than so many bytes, until the fault is mended."""
        return self._inflict(Mtu(size))

    def dhcp(self, grant: Grant | None = None, *edits: Edit, address: str = "10.0.2.2") -> "DhcpServer":
        """Puts a DHCP server with this address in the place of QEMU's, until it leaves; each of its answers is edited so.

        One more is a second server; a grant that is left out is what QEMU's server gives.
        """
        # Imported here, with the rest of what takes scapy.
        from harness.wire.dhcp_server import DhcpServer

        return self.join(DhcpServer(grant or Grant(), edits, address))

    def occupy(self, address: str, mac: str = "52:54:00:00:00:77") -> Neighbour:
        """Puts a host with this address on the guest's network, until it leaves."""
        return self.join(Bystander(address, mac))

    def dns(self, names: "Mapping[str, str | Refusal]") -> "NameServer":
        """Answers all questions for addresses, whichever server they are put to, until it leaves; see `NameServer`."""
        from harness.wire.name_server import NameServer

        return self.join(NameServer(names))

    def ntp(self, ahead: float = 0.0) -> "TimeServer":
        """Tells whoever asks any NTP server a time so many seconds ahead of this host's, until it leaves."""
        from harness.wire.time_server import TimeServer

        return self.join(TimeServer(ahead))

    def redirect(self, port: int) -> Fault:
        """Leads connections to a TCP port of anybody's beyond the guest's own link to the node's site, until it is mended."""
        from harness.wire.redirect import Redirect

        if self._site is None:
            raise InputError("The node has no site to which connections could be led.")
        return self._inflict(Redirect(port, (LOOPBACK, self._site)))

    def serve(self, port: int) -> None:
        """Has what listens on a port of 127.0.0.1 be the node's registry or site, at `REGISTRY`, for as long as it runs.

        Every frame passes through the test's hands from then on: QEMU has no address of its network served that the host's
        kernel could be told of (see `confine`).
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
        """Forwards a port on 127.0.0.1 to a TCP port of the guest, and returns it; raises HarnessError if QEMU does not."""
        if not 0 < port < 1 << 16:
            raise InputError(f"There is no TCP port {port}.")
        before = self.forwarded()
        said = self._ask(f"hostfwd_add {NETWORK} tcp:127.0.0.1:0-:{port}")
        added = [here for here, there in self.forwarded().items() if here not in before and there == port]
        if len(added) != 1:
            raise HarnessError(f"QEMU forwards nothing to port {port} of the guest: {said.strip() or 'without a word'}")
        return added[0]

    def reach(self, port: int) -> int:
        """The port on 127.0.0.1 behind which a TCP port of the guest is, as QEMU forwards it already, or does from now on."""
        here = next((here for here, there in self.forwarded().items() if there == port), None)
        return self.forward(port) if here is None else here

    def forwarded(self) -> dict[int, int]:
        """The ports on 127.0.0.1 that are forwarded, each with the guest's behind it."""
        return {int(found["here"]): int(found["guest"]) for found in _FORWARD.finditer(self._ask("info usernet"))}

    def insert_card(self, driver: str, mac: str) -> None:
        """Puts a NIC into the free slot of the running machine; `driver` is QEMU's name of it, such as `igb`."""
        self._qmp.execute("device_add", {"driver": driver, "id": "card", "bus": SLOT, "mac": mac})

    def close(self) -> None:
        """Ends what the test does to the network; the machine has ended, or does so next."""
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
        """The cable through the test's hands: laid at its first use, so that until then nothing rests on the test."""
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
        # The machine may end meanwhile, and its file go.
        with contextlib.suppress(HarnessError, OSError):
            while not self._closing.wait(_LOOK_SECONDS):
                if capture.exists() and capture.stat().st_size > most:
                    self._captures = False
                    self._qmp.execute("object-del", {"id": CAPTURE})
                    return

    def _passes(self, milestone: Milestone, position: int) -> bool:
        """Waits until a milestone is passed; returns whether that was before the machine's end."""
        while not self._closing.is_set():
            happenings, position = self._feed.read(position)
            if any(milestone.passed(happening) for happening in happenings):
                return True
            self._feed.wait_beyond(position, 1.0)
        return False

    def _ask(self, command: str) -> str:
        return str(self._qmp.execute("human-monitor-command", {"command-line": command}))
