"""The other end of eth0's cable, and a free slot for one more card: what a person with a hand on the machine can do.

The verbs come in pairs; each is done when it returns, as far as the machine goes: the guest notices in its own time.
"""

import re
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.vm.machine import NETWORK, SLOT
from harness.vm.qmp import Qmp

_HOLE = "hole"
# A line of QEMU's table of connections: the port on this host, then the guest's address and port.
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<here>\d+)\s+\S+\s+(?P<guest>\d+)")


@dataclass(frozen=True)
class Wire:
    """The network of one running machine."""

    qmp: Qmp

    def unplug(self) -> None:
        """Takes the cable out: the guest sees no carrier."""
        self.qmp.execute("set_link", {"name": NETWORK, "up": False})

    def plug(self) -> None:
        """Puts the cable back."""
        self.qmp.execute("set_link", {"name": NETWORK, "up": True})

    def block(self) -> None:
        """Lets nothing through, with the carrier still there: a network on which nobody answers, DHCP included."""
        self.qmp.execute("chardev-add", {"id": _HOLE, "backend": {"type": "null", "data": {}}})
        # At the head: what the guest sends passes the filters from the tail on, and is captured before it is swallowed.
        hole = {"qom-type": "filter-redirector", "id": _HOLE, "netdev": NETWORK, "queue": "all", "position": "head"}
        self.qmp.execute("object-add", {**hole, "outdev": _HOLE})

    def unblock(self) -> None:
        """Lets everything through again."""
        self.qmp.execute("object-del", {"id": _HOLE})
        self.qmp.execute("chardev-remove", {"id": _HOLE})

    def forward(self, port: int) -> int:
        """Forwards a port on 127.0.0.1 to a TCP port of the guest, and returns it; raises HarnessError if QEMU does not."""
        before = self.forwarded()
        said = self._ask(f"hostfwd_add {NETWORK} tcp:127.0.0.1:0-:{port}")
        added = [here for here, there in self.forwarded().items() if here not in before and there == port]
        if len(added) != 1:
            raise HarnessError(f"QEMU forwards nothing to port {port} of the guest: {said.strip() or 'without a word'}")
        return added[0]

    def forwarded(self) -> dict[int, int]:
        """The ports on 127.0.0.1 that are forwarded, each with the guest's behind it."""
        return {int(found["here"]): int(found["guest"]) for found in _FORWARD.finditer(self._ask("info usernet"))}

    def _ask(self, command: str) -> str:
        return str(self.qmp.execute("human-monitor-command", {"command-line": command}))

    def insert_card(self, driver: str, mac: str) -> None:
        """Puts a NIC into the free slot of the running machine; `driver` is QEMU's name of it, such as `igb`."""
        self.qmp.execute("device_add", {"driver": driver, "id": "card", "bus": SLOT, "mac": mac})
