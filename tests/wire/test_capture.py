"""What went over the wire: a hand-made capture file, read while it still grows, and the address of a NIC."""

import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.wire.capture import Address, Follower, datagrams, frames
from harness.wire.frame import Datagram

_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
_MAC = "52:54:00:6b:69:6f"
_OTHER = "52:54:00:00:00:02"
_MINE = "10.0.2.15"


def capture(path: Path, packets: Sequence[bytes], tail: bytes = b"") -> Path:
    records = (struct.pack("<IIII", at, 0, len(packet), len(packet)) + packet for at, packet in enumerate(packets))
    path.write_bytes(_HEADER + b"".join(records) + tail)
    return path


def arp(*, sender: str = _MAC, address: str = _MINE, target: str = _MINE, operation: int = 1) -> bytes:
    mac, asked = bytes.fromhex(sender.replace(":", "")), ipaddress.IPv4Address(target).packed
    packet = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, ipaddress.IPv4Address(address).packed, bytes(6), asked
    )
    return (b"\xff" * 6 + mac + b"\x08\x06" + packet).ljust(60, b"\0")


def udp(
    payload: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0,
    length: int | None = None,
    protocol: int = 17,
    source: str = _MINE,
) -> bytes:
    """A frame of a datagram from port 4660 to port 53 of 10.0.2.3, with a header whose sum is right."""
    content = struct.pack("!HHHH", 4660, 53, 8 + len(payload) if length is None else length, 0) + payload
    size = 20 + len(options)
    fields = [
        0x40 | size // 4,
        0,
        size + len(content),
        7,
        fragment,
        64,
        protocol,
        0,
        ipaddress.IPv4Address(source).packed,
        bytes((10, 0, 2, 3)),
    ]
    header = struct.Struct("!BBHHHBBH4s4s")
    total = sum(struct.unpack(f"!{size // 2}H", header.pack(*fields) + options))
    fields[7] = 0xFFFF - (total % 0xFFFF or 0xFFFF)
    return (bytes(12) + b"\x08\x00" + header.pack(*fields) + options + content).ljust(60, b"\0")


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    return tmp_path / "eth0.pcap"


def test_frames_are_those_written(pcap: Path) -> None:
    packets = [b"a" * 60, b"", b"b" * 1514]
    assert list(frames(capture(pcap, packets))) == packets


def test_every_cut_leaves_the_whole_frames_before_it(pcap: Path) -> None:
    whole = capture(pcap, [b"first", b"second"]).read_bytes()
    ends = [len(_HEADER) + 16 + 5, len(whole)]
    for size in range(len(whole) + 1):
        pcap.write_bytes(whole[:size])
        assert list(frames(pcap)) == [b"first", b"second"][: sum(size >= end for end in ends)]


def test_a_capture_that_grows_is_read_once(pcap: Path) -> None:
    follower = Follower(pcap)
    assert list(follower.read()) == []
    whole = capture(pcap, [b"first", b"second", b"third"]).read_bytes()
    read: list[bytes] = []
    for size in range(len(whole) + 1):
        pcap.write_bytes(whole[:size])
        read += follower.read()
    assert read == [b"first", b"second", b"third"]


def test_a_follower_that_is_left_in_the_middle_goes_on_there(pcap: Path) -> None:
    follower = Follower(capture(pcap, [b"first", b"second", b"third"]))
    assert next(follower.read()) == b"first"
    assert list(follower.read()) == [b"second", b"third"]


def test_a_capture_that_is_not_there_yet_has_no_frames(pcap: Path) -> None:
    assert list(frames(pcap)) == []
    assert Address(pcap, _MAC).seen() is None


def sent_from(address: str) -> bytes:
    """A datagram of the node's own NIC."""
    packet = udp(b"hello", source=address)
    return packet[:6] + bytes.fromhex(_MAC.replace(":", "")) + packet[12:]


@pytest.mark.parametrize(
    "frame",
    [arp(), arp(operation=2), arp(target="10.0.2.2"), arp(target="10.0.2.2", operation=2), sent_from(_MINE)],
    ids=["announcement", "announcing-reply", "request", "reply", "packet"],
)
def test_an_address_in_use_is_seen_however_the_nic_got_it(pcap: Path, frame: bytes) -> None:
    capture(pcap, [b"x" * 60, frame])
    assert Address(pcap, _MAC).seen() == ipaddress.IPv4Address(_MINE)
    assert Address(pcap, _MAC.upper()).seen() == ipaddress.IPv4Address(_MINE)


@pytest.mark.parametrize(
    "frame",
    [
        arp(sender=_OTHER),
        udp(b"of another NIC"),
        arp(address="0.0.0.0"),
        arp(address="0.0.0.0", target="0.0.0.0"),
        sent_from("0.0.0.0"),
        sent_from("169.254.3.4"),
        arp()[:41],
        arp()[:12] + b"\x08\x00" + arp()[14:],
    ],
    ids=["another-nic", "another-nics-packet", "probe", "nothing", "asking-for-one", "link-local", "short", "not-arp"],
)
def test_anything_else_shows_no_address(pcap: Path, frame: bytes) -> None:
    address = Address(capture(pcap, [frame]), _MAC)
    assert address.seen() is None
    capture(pcap, [frame, arp()])
    assert address.seen() is not None


def test_an_address_that_was_seen_stays(pcap: Path) -> None:
    address = Address(capture(pcap, [arp()]), _MAC)
    assert address.seen() is not None
    pcap.unlink()
    assert address.seen() is not None


def test_an_address_counts_once_its_frame_is_whole(pcap: Path) -> None:
    whole = capture(pcap, [arp()]).read_bytes()
    pcap.write_bytes(whole[:-1])
    address = Address(pcap, _MAC)
    assert address.seen() is None
    pcap.write_bytes(whole)
    assert address.seen() is not None


_SENT = Datagram(ipaddress.IPv4Address("10.0.2.15"), 4660, ipaddress.IPv4Address("10.0.2.3"), 53, b"who is there?")


def test_a_datagram_is_read_without_the_padding_of_its_frame(pcap: Path) -> None:
    assert list(datagrams(capture(pcap, [arp(), udp(b"who is there?"), b"short"]))) == [_SENT]


def test_options_of_the_header_are_no_part_of_the_datagram(pcap: Path) -> None:
    assert list(datagrams(capture(pcap, [udp(b"who is there?", options=b"\x01" * 8)]))) == [_SENT]


@pytest.mark.parametrize(
    "frame",
    [
        udp(b"in part", fragment=0x2000),
        udp(b"behind a part", fragment=1),
        udp(b"longer than its packet", length=99),
        udp(b"shorter than its header", length=7),
        udp(b"not UDP", protocol=6),
        udp(b"another version")[:14] + b"\x65" + udp(b"another version")[15:],
        udp(b"a sum that is wrong")[:24] + b"\0\0" + udp(b"a sum that is wrong")[26:],
        udp(b"cut off, as a packet")[:33],
    ],
)
def test_what_is_no_whole_datagram_is_left_out(pcap: Path, frame: bytes) -> None:
    assert list(datagrams(capture(pcap, [frame, udp(b"who is there?")]))) == [_SENT]
