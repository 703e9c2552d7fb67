"""DHCP messages, read from captures: whole, in parts, broken and cut."""

import ipaddress
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire.capture import frames
from harness.wire.dhcp import Kind, Message, messages
from tests.wire.bootp import (
    GATEWAY,
    MAC,
    MINE,
    OPTIONS_AT,
    PAYLOAD_AT,
    RECORDED,
    UDP_AT,
    address,
    bootp,
    discover,
    frame,
    option,
    options,
    request,
    with_checksum,
    write,
)


def only(pcap: Path, payload: bytes) -> Message:
    (message,) = messages(write(pcap, [frame(payload)]))
    return message


def test_a_recorded_exchange_is_read_in_its_order(pcap: Path) -> None:
    seen = messages(write(pcap, RECORDED))
    assert [message.kind for message in seen] == [Kind.DISCOVER, Kind.OFFER, Kind.REQUEST, Kind.ACK]
    assert {(message.xid, message.client_mac) for message in seen} == {(0x4B85C59C, MAC)}
    mine, server = ipaddress.IPv4Address(MINE), ipaddress.IPv4Address(GATEWAY)
    assert [message.yiaddr for message in seen[1::2]] == [mine, mine]
    assert seen[0].client_id == bytes.fromhex("015254006b696f")
    assert (seen[0].server, seen[0].requested, seen[0].mask, seen[0].hostname) == (None, None, None, None)
    assert (seen[2].server, seen[2].requested) == (server, mine)


def test_routers_and_dns_servers_keep_their_order(pcap: Path) -> None:
    both = option(3, address("10.0.2.9") + address("10.0.2.8")) + option(6, address("10.0.2.7") + address("10.0.2.6"))
    message = only(pcap, bootp(Kind.ACK, both))
    assert [str(router) for router in message.routers] == ["10.0.2.9", "10.0.2.8"]
    assert [str(server) for server in message.dns_servers] == ["10.0.2.7", "10.0.2.6"]


def test_padding_is_skipped_and_nothing_is_read_behind_the_end(pcap: Path) -> None:
    message = only(pcap, bootp(Kind.DISCOVER, b"\0\0" + option(12, b"kios-node\0") + b"\0\xff" + option(50, address(MINE))))
    assert (message.hostname, message.requested) == ("kios-node", None)


def test_a_hostname_of_any_bytes_is_a_name(pcap: Path) -> None:
    assert only(pcap, bootp(Kind.DISCOVER, option(12, b"k\xff"))).hostname == "k\N{REPLACEMENT CHARACTER}"


def test_an_option_in_parts_is_joined(pcap: Path) -> None:
    assert only(pcap, bootp(Kind.DISCOVER, option(12, b"kios-") + option(12, b"node"))).hostname == "kios-node"


@pytest.mark.parametrize(
    ("overload", "hostname", "requested"),
    [(0, None, None), (1, "in-file", None), (2, None, MINE), (3, "in-file", MINE)],
    ids=["neither", "file", "sname", "both"],
)
def test_options_go_on_where_option_52_says(pcap: Path, overload: int, hostname: str | None, requested: str | None) -> None:
    file, sname = option(12, b"in-file") + b"\xff", option(50, address(MINE))
    message = only(pcap, bootp(Kind.DISCOVER, option(52, bytes((overload,))), file=file, sname=sname))
    assert message.hostname == hostname
    assert message.requested == (requested and ipaddress.IPv4Address(requested))


def changed(at: int, value: bytes) -> bytes:
    """A DISCOVER with other bytes at a place, and a header checksum that fits them."""
    whole = discover()
    return with_checksum(whole[:at] + value + whole[at + len(value) :])


def without_destination() -> bytes:
    """A DISCOVER whose IPv4 header is of 16 bytes, and whole but for that."""
    whole = discover()
    length = struct.pack("!H", len(whole) - 14 - 4)
    return with_checksum(whole[:14] + b"\x44" + whole[15:16] + length + whole[18:30] + whole[34:], words=8)


@pytest.mark.parametrize(
    "broken",
    [
        changed(12, b"\x86\xdd"),
        changed(14, b"\x65"),
        without_destination(),
        discover()[:22] + b"\x3f" + discover()[23:],
        changed(16, struct.pack("!H", len(discover()) - 14 + 1)),
        with_checksum(changed(16, struct.pack("!H", 23))[: 14 + 23]),
        changed(20, b"\x20\x00"),
        changed(20, b"\x00\x01"),
        changed(23, b"\x06"),
        changed(36, struct.pack("!H", 69)),
        changed(36, struct.pack("!H", 68)),
        changed(38, struct.pack("!H", 7)),
        changed(38, struct.pack("!H", len(discover()) - UDP_AT + 1)),
        changed(PAYLOAD_AT, b"\x02"),
        changed(PAYLOAD_AT + 1, b"\x06"),
        changed(PAYLOAD_AT + 2, b"\x10"),
        changed(PAYLOAD_AT + 236, b"\0"),
        frame(bootp(9)),
        frame(bootp(Kind.DISCOVER, option(53, b"\x01"))),
        frame(bootp(Kind.DISCOVER, option(50, b"\x0a\x00\x02"))),
        frame(bootp(Kind.ACK, option(3, b"\x0a\x00\x02"))),
        frame(bootp(Kind.ACK)[:-1] + b"\x0c\x02k"),
        frame(bootp(Kind.ACK)[:-1] + b"\x0c"),
    ],
    ids=[
        "ipv6",
        "ip-version",
        "short-ip-header",
        "ip-checksum",
        "longer-than-the-frame",
        "no-room-for-udp",
        "first-fragment",
        "later-fragment",
        "tcp",
        "tftp-port",
        "discover-to-a-client",
        "short-udp",
        "long-udp",
        "op-of-a-reply",
        "token-ring",
        "long-mac",
        "no-cookie",
        "unknown-kind",
        "two-kinds",
        "short-address",
        "short-router",
        "cut-option",
        "option-without-length",
    ],
)
def test_a_broken_frame_is_skipped(pcap: Path, broken: bytes) -> None:
    assert [message.xid for message in messages(write(pcap, [discover(xid=8), broken, discover(xid=9)]))] == [8, 9]


def test_every_cut_of_a_frame_is_skipped(pcap: Path) -> None:
    whole = request()
    assert messages(write(pcap, [whole[:size] for size in range(len(whole))])) == []


def test_ethernets_padding_is_not_read(pcap: Path) -> None:
    (message,) = messages(write(pcap, [frame(bootp(Kind.DISCOVER)[:-1]) + option(12, b"padding")]))
    assert message.hostname is None


def test_a_capture_that_is_not_there_yet_has_no_messages(pcap: Path) -> None:
    assert messages(pcap) == []


_garbage = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=40).map(lambda tail: discover()[:OPTIONS_AT] + tail),
    st.builds(
        lambda kind, options, file, sname, port: frame(bootp(kind, options, file=file[:128], sname=sname[:64]), port),
        st.integers(0, 10),
        options,
        options,
        options,
        st.sampled_from([67, 68]),
    ),
    st.builds(
        lambda whole, at, value: with_checksum(whole[: at % len(whole)] + value + whole[at % len(whole) + len(value) :]),
        st.sampled_from(RECORDED),
        st.integers(14, 400),
        st.binary(max_size=4),
    ),
)


@settings(max_examples=300, deadline=None)
@given(noise=st.lists(_garbage, max_size=4))
def test_no_frame_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, noise: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pcap"
    write(path, [*RECORDED[:2], *noise, *RECORDED[2:]])
    assert len(list(frames(path))) == 4 + len(noise)
    seen = messages(path)
    assert seen[:2] + seen[-2:] == messages(write(path, RECORDED))
