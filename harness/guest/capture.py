"""What went over the wire of eth0, as QEMU writes it down (libpcap's file format, pcap-savefile(5))."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")
_ETHERNET_HEADER = 14
_IPV4, _ARP = 0x0800, 0x0806
# RFC 791: version and header length, service, total length, identification, fragment, time, protocol, checksum, addresses.
_IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
_FRAGMENTED = 0x3FFF
_UDP = 17
_UDP_HEADER = struct.Struct("!HHHH")
# RFC 826 on Ethernet: types and sizes, operation, then sender and target, each a hardware and a protocol address.
_ARP_PACKET = struct.Struct("!HHBBH6s4s6s4s")


@dataclass(frozen=True)
class Datagram:
    """A whole UDP datagram over IPv4 (RFC 768)."""

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    payload: bytes


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


def announced_address(capture: Path, mac: str) -> IPv4Address | None:
    """Returns the address that a NIC has announced as its own (RFC 5227, 2.3), None while it has announced none.

    A DHCP client does this once it has probed its lease and set it: from then on the node can be reached.
    """
    sender = bytes.fromhex(mac.replace(":", ""))
    for frame in frames(capture):
        if len(frame) < _ETHERNET_HEADER + _ARP_PACKET.size or _ethertype(frame) != _ARP:
            continue
        *_, hardware, address, _, target = _ARP_PACKET.unpack_from(frame, _ETHERNET_HEADER)
        if hardware == sender and address == target and any(address):
            return IPv4Address(address)
    return None


def datagrams(capture: Path) -> Iterator[Datagram]:
    """Yields the UDP datagrams written so far; a fragment, and one that is broken, is left out.

    UDP's checksum is not looked at: the guest leaves it to a NIC that the frames in a capture have not passed yet. That of
    the IPv4 header is always there.
    """
    for frame in frames(capture):
        datagram = _datagram(frame)
        if datagram:
            yield datagram


def _ethertype(frame: bytes) -> int:
    return int.from_bytes(frame[12:_ETHERNET_HEADER])


def _datagram(frame: bytes) -> Datagram | None:
    packet = frame[_ETHERNET_HEADER:]
    if _ethertype(frame) != _IPV4 or len(packet) < _IPV4_HEADER.size:
        return None
    version, _, total, _, fragment, _, protocol, _, source, destination = _IPV4_HEADER.unpack_from(packet)
    header = (version & 0xF) * 4
    if version >> 4 != 4 or not _IPV4_HEADER.size <= header <= total <= len(packet) or _checksum(packet[:header]):
        return None
    if protocol != _UDP or fragment & _FRAGMENTED or total - header < _UDP_HEADER.size:
        return None
    source_port, destination_port, length, _ = _UDP_HEADER.unpack_from(packet, header)
    if not _UDP_HEADER.size <= length <= total - header:
        return None
    payload = packet[header + _UDP_HEADER.size : header + length]
    return Datagram(IPv4Address(source), source_port, IPv4Address(destination), destination_port, payload)


def _checksum(header: bytes) -> int:
    """0 if the header is whole (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
