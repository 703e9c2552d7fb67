"""The neighbours on a node's network, each as a station on its cable."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Self

from harness.wire import frame
from harness.wire.cable import Say

_ARP_REQUEST = 1


class Neighbour(ABC):
    """A station with an address; it stays for a `with` block, or until `leave`."""

    def __init__(self, address: IPv4Address | str, mac: str | None = None) -> None:
        # Imported here, because importing scapy takes half a second, which only tests with a neighbour should pay.
        from harness.wire import packets

        self._packets = packets
        self.address = IPv4Address(address)
        self.mac = mac or mac_of(self.address)
        # Set by whoever puts the neighbour on a cable.
        self.on_leave: Callable[[Neighbour], None] = lambda _: None

    def leave(self) -> None:
        """Goes off the network; raises InputError if something failed on a frame."""
        self.on_leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def hear(self, content: bytes, say: Say) -> bool:
        """See `Station`."""
        asked = frame.arp(content)
        if asked and asked.operation == _ARP_REQUEST and asked.target_address == self.address:
            say(self._packets.arp_reply(self.mac, self.address, asked), 0)
        return self.serve(content, say)

    @abstractmethod
    def serve(self, content: bytes, say: Say) -> bool:
        """Answers a frame of the guest's; returns whether it was for this station alone."""


class Bystander(Neighbour):
    """A host that owns an address: a client that probes for it finds it in use (RFC 5227, 2.1.1)."""

    def serve(self, content: bytes, say: Say) -> bool:
        """Serves nothing."""
        return False


def mac_of(address: IPv4Address) -> str:
    """The hardware address of QEMU's network for one of its own addresses (libslirp, src/slirp.c: special_ethaddr)."""
    return f"52:55:{address.packed.hex(':')}"
