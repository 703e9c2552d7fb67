"""The capture of eth0's wire: as QEMU writes it (pcap-savefile(5)), or as it is kept afterwards (see `record`)."""

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from harness.wire import frame
from harness.wire.frame import Datagram

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")
# pcap-savefile(5): magic, version, two unused fields, the longest frame, Ethernet.
_NEW = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
# pcapng: a section's first bytes, a block's head, and the places of the frame and its length in a packet's block.
_KEPT = bytes.fromhex("0a0d0d0a")
_BLOCK = struct.Struct("<II")
_PACKET, _CAPTURED, _CONTENT = 6, slice(12, 16), 20


class Follower:
    """Reads a capture while it grows, each frame once."""

    def __init__(self, capture: Path) -> None:
        self._capture = capture
        self._position = _FILE_HEADER

    def read(self) -> Iterator[bytes]:
        """Yields the new Ethernet frames; a last one that is not whole yet is left for the next time."""
        if not self._capture.exists():
            return
        with self._capture.open("rb") as file:
            file.seek(self._position)
            while len(header := file.read(_RECORD.size)) == _RECORD.size:
                _, _, captured, _ = _RECORD.unpack(header)
                content = file.read(captured)
                if len(content) < captured:
                    return
                self._position += _RECORD.size + captured
                yield content


class Address:
    """The address that a NIC uses as its own, in a capture that grows."""

    def __init__(self, capture: Path, mac: str) -> None:
        self._new = Follower(capture)
        self._mac = mac.lower()
        self._found: IPv4Address | None = None

    def seen(self) -> IPv4Address | None:
        """Returns the first address that the NIC was seen to use, None while it has none.

        It shows in any ARP message except a probe (RFC 5227, 1.1) and in any packet, however the NIC got the address; from then
        on the node can be reached. An address that is only valid on its own link does not count.
        """
        if self._found is None:
            addresses = (_sender(content) for content in self._new.read() if frame.source_of(content) == self._mac)
            self._found = next((address for address in addresses if address and _leads_somewhere(address)), None)
        return self._found


def frames(capture: Path) -> Iterator[bytes]:
    """Yields the Ethernet frames written so far, without a last one that is not whole yet."""
    if capture.exists():
        with capture.open("rb") as file:
            kept = file.read(len(_KEPT)) == _KEPT
        return _kept_frames(capture) if kept else Follower(capture).read()
    return iter(())


def _kept_frames(capture: Path) -> Iterator[bytes]:
    with capture.open("rb") as file:
        while len(header := file.read(_BLOCK.size)) == _BLOCK.size:
            kind, length = _BLOCK.unpack(header)
            body = file.read(length - _BLOCK.size)
            if kind == _PACKET:
                captured = int.from_bytes(body[_CAPTURED], "little")
                yield body[_CONTENT : _CONTENT + captured]


def write(capture: Path, contents: Iterable[bytes]) -> None:
    """Writes a capture of these frames, without their times."""
    records = (_RECORD.pack(0, 0, len(content), len(content)) + content for content in contents)
    capture.write_bytes(_NEW + b"".join(records))


def datagrams(capture: Path) -> Iterator[Datagram]:
    """Yields the UDP datagrams written so far, without fragments and broken ones."""
    return (datagram for content in frames(capture) if (datagram := frame.datagram(content)))


def _sender(content: bytes) -> IPv4Address | None:
    if said := frame.arp(content):
        return said.sender_address
    sent = frame.packet(content)
    return sent.source if sent else None


def _leads_somewhere(address: IPv4Address) -> bool:
    return not (address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast)
