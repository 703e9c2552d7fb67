"""What went over the wire of eth0, as QEMU writes it down (libpcap's file format, pcap-savefile(5))."""

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")
_ARP = 0x0806
# RFC 826 on Ethernet: types and sizes, operation, then sender and target, each a hardware and a protocol address.
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")


def frames(capture: Path) -> Iterator[bytes]:
    """Yields the Ethernet frames written so far; a last one that is not whole yet is left out."""
    content = capture.read_bytes() if capture.exists() else b""
    position = _FILE_HEADER
    while position + _RECORD.size <= len(content):
        _, _, captured, _ = _RECORD.unpack_from(content, position)
        position += _RECORD.size
        if position + captured > len(content):
            return
        yield content[position : position + captured]
        position += captured


def announced_address(capture: Path, mac: str) -> ipaddress.IPv4Address | None:
    """Returns the address that a NIC has announced as its own (RFC 5227, 2.3), None while it has announced none.

    A DHCP client does this once it has probed its lease and set it: from then on the node can be reached.
    """
    sender = bytes.fromhex(mac.replace(":", ""))
    for frame in frames(capture):
        if len(frame) < 14 + _ARP_PACKET.size or int.from_bytes(frame[12:14]) != _ARP:
            continue
        *_, hardware, address, _, target = _ARP_PACKET.unpack_from(frame, 14)
        if hardware == sender and address == target and any(address):
            return ipaddress.IPv4Address(address)
    return None
