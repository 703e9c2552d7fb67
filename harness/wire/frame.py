"""An Ethernet frame, and its content: ARP, IPv4, UDP and TCP."""

import struct
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

ETHERNET_HEADER = 14
_IPV4, _ARP = 0x0800, 0x0806
# RFC 791: version and header length, service, total length, identification, fragment, time, protocol, checksum, addresses.
_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_FRAGMENTED = 0x3FFF
_TCP, _UDP = 6, 17
_UDP_HEADER = struct.Struct("!HHHH")
# RFC 9293: ports, sequence and acknowledgement numbers, the header's length in the upper half of a byte, flags.
_TCP_HEADER = struct.Struct("!HHIIBB6x")
# RFC 826 on Ethernet: types and sizes, operation, then sender and target, each a hardware and a protocol address.
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")
_ARP_OF_IPV4 = (1, _IPV4, 6, 4)


class Way(StrEnum):
    """The direction of a frame, as the guest sees it."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True)
class Frame:
    """An Ethernet frame and its direction; `content` is from the destination's address to the end of the payload."""

    way: Way
    content: bytes


@dataclass(frozen=True)
class Arp:
    """An ARP request (operation 1) or reply (2); `sender` is a hardware address as `52:54:00:6b:69:6f`."""

    operation: int
    sender: str
    sender_address: IPv4Address
    target_address: IPv4Address


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet; the payload of a fragment is only a part of what was sent."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    fragment: bool
    payload: bytes
    header_bytes: int


@dataclass(frozen=True)
class Datagram:
    """A whole UDP datagram over IPv4 (RFC 768)."""

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    payload: bytes


@dataclass(frozen=True)
class Segment:
    """A TCP segment over IPv4 (RFC 9293); `flags` as in its header: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK.

    `sequence` and `acknowledged` are the numbers there, `size` is the bytes of the whole packet.
    """

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    flags: int
    payload: bytes
    sequence: int
    acknowledged: int
    size: int


def source_of(content: bytes) -> str:
    """The hardware address of a frame's sender, as `52:54:00:6b:69:6f`."""
    return content[6:12].hex(":")


def arp(content: bytes) -> Arp | None:
    """The ARP message for IPv4 in a frame; None if there is none."""
    if len(content) < ETHERNET_HEADER + _ARP_PACKET.size or _ethertype(content) != _ARP:
        return None
    *kinds, operation, sender, address, _, target = _ARP_PACKET.unpack_from(content, ETHERNET_HEADER)
    if tuple(kinds) != _ARP_OF_IPV4:
        return None
    return Arp(operation, sender.hex(":"), IPv4Address(address), IPv4Address(target))


def packet(content: bytes) -> Packet | None:
    """The IPv4 packet in a frame; None if there is none, or its header is broken."""
    carried = content[ETHERNET_HEADER:]
    if _ethertype(content) != _IPV4 or len(carried) < _IPV4_HEADER.size:
        return None
    version, _, total, _, fragment, _, protocol, _, source, destination = _IPV4_HEADER.unpack_from(carried)
    header = (version & 0xF) * 4
    if version >> 4 != 4 or not _IPV4_HEADER.size <= header <= total <= len(carried) or _checksum(carried[:header]):
        return None
    addresses = IPv4Address(source), IPv4Address(destination)
    return Packet(*addresses, protocol, bool(fragment & _FRAGMENTED), carried[header:total], header)


def datagram(content: bytes) -> Datagram | None:
    """The UDP datagram in a frame; None for a fragment, and for a broken one.

    UDP's checksum is not checked: the guest leaves it to the NIC, which the frames in a capture have not passed yet. The
    checksum of the IPv4 header is always there.
    """
    carrier = packet(content)
    if carrier is None or carrier.protocol != _UDP or carrier.fragment or len(carrier.payload) < _UDP_HEADER.size:
        return None
    source_port, destination_port, length, _ = _UDP_HEADER.unpack_from(carrier.payload)
    if not _UDP_HEADER.size <= length <= len(carrier.payload):
        return None
    payload = carrier.payload[_UDP_HEADER.size : length]
    return Datagram(carrier.source, source_port, carrier.destination, destination_port, payload)


def segment(content: bytes) -> Segment | None:
    """The TCP segment in a frame; None for a fragment, and for a broken one. Its checksum is not checked."""
    carrier = packet(content)
    if carrier is None or carrier.protocol != _TCP or carrier.fragment or len(carrier.payload) < _TCP_HEADER.size:
        return None
    source_port, destination_port, sequence, acknowledged, offset, flags = _TCP_HEADER.unpack_from(carrier.payload)
    header = (offset >> 4) * 4
    if not _TCP_HEADER.size <= header <= len(carrier.payload):
        return None
    ends = carrier.source, source_port, carrier.destination, destination_port
    size = carrier.header_bytes + len(carrier.payload)
    return Segment(*ends, flags, carrier.payload[header:], sequence, acknowledged, size)


def _ethertype(content: bytes) -> int:
    return int.from_bytes(content[12:ETHERNET_HEADER])


def _checksum(header: bytes) -> int:
    """0 if the header is whole (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
