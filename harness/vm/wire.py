"""The other end of eth0's cable, and a free slot for one more card: what a person with a hand on the machine can do.

The verbs come in pairs; each is done when it returns, as far as the machine goes: the guest notices in its own time.
"""

from dataclasses import dataclass

from harness.vm.machine import NETWORK, SLOT
from harness.vm.qmp import Qmp

_HOLE = "hole"


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

    def insert_card(self, driver: str, mac: str) -> None:
        """Puts a NIC into the free slot of the running machine; `driver` is QEMU's name of it, such as `igb`."""
        self.qmp.execute("device_add", {"driver": driver, "id": "card", "bus": SLOT, "mac": mac})
