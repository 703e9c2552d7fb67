"""DHCP on the wire: a recorded exchange of dhcpcd with QEMU's server, made-up ones that lack a step, and broken frames."""

import contextlib
import ipaddress
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import NodeFailure
from harness.wire.capture import frames
from harness.wire.dhcp import Kind, Lease, Message, exchange, keep, lease, messages, record_lease

_MAC = "52:54:00:6b:69:6f"
_OTHER = "52:54:00:00:00:02"
_MINE = "10.0.2.15"
_GATEWAY = "10.0.2.2"
_RIVAL = "10.0.2.200"
_UDP_AT = 14 + 20
_PAYLOAD_AT = _UDP_AT + 8
_OPTIONS_AT = _PAYLOAD_AT + 240
# A node's first boot: dhcpcd 9.4.1 and the server of QEMU's user network.
_FROM_DHCPCD = "ffffffffffff5254006b696f0800 4500{ip}00000000ffffffff 00440043{udp} 010106004b85c59c"
_FROM_QEMU = "ffffffffffff52550a0002020800 4510{ip}0a000202ffffffff 00430044{udp} 020106004b85c59c"
_VENDOR = "3c2f6468637063642d392e342e313a4c696e75782d362e31322e3131373a7838365f36343a47656e75696e65496e74656c"
_GRANT = "36040a0002020104ffffff0003040a00020206040a000203330400015180ff"


def recorded(head: str, *, ip: str, udp: str, addresses: str, options: str) -> bytes:
    front = bytes.fromhex(head.format(ip=ip, udp=udp)) + bytes(8) + bytes.fromhex(addresses)
    options_at = front.ljust(_PAYLOAD_AT + 28, b"\0") + bytes.fromhex("5254006b696f") + bytes(202)
    return options_at + bytes.fromhex("63825363" + options)


_RECORDED = [
    recorded(
        _FROM_DHCPCD,
        ip="015d3f04000040113a8d",
        udp="0149512e",
        addresses="",
        options=f"350101370701031c21333a3b390205c03d07015254006b696f{_VENDOR}740101910101ff",
    ),
    recorded(
        _FROM_QEMU,
        ip="02400000000040116c9c",
        udp="022c74dd",
        addresses="0a00020f0a000202",
        options="350102" + _GRANT + "00" * 274,
    ),
    recorded(
        _FROM_DHCPCD,
        ip="01668a8a00004011eefd",
        udp="0152ed5a",
        addresses="",
        options=f"32040a00020f35010336040a000202370701031c21333a3b390205c03d07015254006b696f{_VENDOR}910101ff",
    ),
    recorded(
        _FROM_QEMU,
        ip="02400001000040116c9b",
        udp="022c71dd",
        addresses="0a00020f0a000202",
        options="350105" + _GRANT + "00" * 274,
    ),
]
_LEASE = Lease(
    address=ipaddress.IPv4Interface("10.0.2.15/24"),
    routers=(ipaddress.IPv4Address(_GATEWAY),),
    dns_servers=(ipaddress.IPv4Address("10.0.2.3"),),
    seconds=86400,
    server=ipaddress.IPv4Address(_GATEWAY),
)


def address(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def bootp(
    kind: int,
    options: bytes = b"",
    *,
    xid: int = 1,
    mac: str = _MAC,
    ciaddr: str = "0.0.0.0",
    yiaddr: str = "0.0.0.0",
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    """The UDP payload of one message: the kind, `options`, the end."""
    operation = 2 if kind in (Kind.OFFER, Kind.ACK, Kind.NAK) else 1
    fixed = struct.pack("!BBBBIHH", operation, 1, 6, 0, xid, 0, 0) + address(ciaddr) + address(yiaddr) + bytes(8)
    named = bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    return fixed + named + bytes((99, 130, 83, 99)) + option(53, bytes((kind,))) + options + b"\xff"


def frame(payload: bytes, port: int | None = None) -> bytes:
    """An Ethernet frame around a payload; without a port it goes to the client or the server as its op says."""
    port = port or {1: 67, 2: 68}[payload[0]]
    udp = struct.pack("!HHHH", 135 - port, port, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + address("0.0.0.0") + address("255.255.255.255")
    return with_checksum(bytes(12) + b"\x08\x00" + ip + udp)


def with_checksum(packet: bytes, words: int = 10) -> bytes:
    header = packet[14:24] + bytes(2) + packet[26 : 14 + 2 * words]
    total = sum(struct.unpack(f"!{words}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return packet[:24] + struct.pack("!H", total ^ 0xFFFF) + packet[26:]


def discover(*, xid: int = 1, mac: str = _MAC) -> bytes:
    return frame(bootp(Kind.DISCOVER, xid=xid, mac=mac))


def offer(given: str = _MINE, *, server: str = _GATEWAY, xid: int = 1, mac: str = _MAC) -> bytes:
    return frame(bootp(Kind.OFFER, grant(server), xid=xid, mac=mac, yiaddr=given))


def request(wanted: str = _MINE, *, server: str = _GATEWAY, xid: int = 1, mac: str = _MAC) -> bytes:
    return frame(bootp(Kind.REQUEST, option(50, address(wanted)) + option(54, address(server)), xid=xid, mac=mac))


def ack(given: str = _MINE, *, server: str = _GATEWAY, xid: int = 1, mac: str = _MAC) -> bytes:
    return frame(bootp(Kind.ACK, grant(server), xid=xid, mac=mac, yiaddr=given))


def nak(*, xid: int = 1) -> bytes:
    return frame(bootp(Kind.NAK, option(54, address(_GATEWAY)), xid=xid))


def decline() -> bytes:
    return frame(bootp(Kind.DECLINE, option(50, address(_MINE)) + option(54, address(_GATEWAY)), xid=99))


def reboot(*, xid: int = 1) -> bytes:
    return frame(bootp(Kind.REQUEST, option(50, address(_MINE)), xid=xid))


def renewal() -> bytes:
    return frame(bootp(Kind.REQUEST, ciaddr=_MINE, xid=7))


def grant(server: str = _GATEWAY, mask: str = "255.255.255.0") -> bytes:
    return b"".join(
        [
            option(54, address(server)),
            option(1, address(mask)),
            option(3, address(_GATEWAY)),
            option(6, address("10.0.2.3")),
            option(51, struct.pack("!I", 86400)),
        ]
    )


def write(path: Path, packets: Sequence[bytes]) -> Path:
    records = (struct.pack("<IIII", at, 0, len(packet), len(packet)) + packet for at, packet in enumerate(packets))
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))
    return path


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    return tmp_path / "eth0.pcap"


def only(pcap: Path, payload: bytes) -> Message:
    (message,) = messages(write(pcap, [frame(payload)]))
    return message


def test_a_recorded_exchange_is_read_in_its_order(pcap: Path) -> None:
    seen = messages(write(pcap, _RECORDED))
    assert [message.kind for message in seen] == [Kind.DISCOVER, Kind.OFFER, Kind.REQUEST, Kind.ACK]
    assert {(message.xid, message.client_mac) for message in seen} == {(0x4B85C59C, _MAC)}
    mine, server = ipaddress.IPv4Address(_MINE), ipaddress.IPv4Address(_GATEWAY)
    assert [message.yiaddr for message in seen[1::2]] == [mine, mine]
    assert seen[0].client_id == bytes.fromhex("015254006b696f")
    assert (seen[0].server, seen[0].requested, seen[0].mask, seen[0].hostname) == (None, None, None, None)
    assert (seen[2].server, seen[2].requested) == (server, mine)


@pytest.mark.parametrize("mac", [_MAC, _MAC.upper()])
def test_a_recorded_exchange_gives_its_lease(pcap: Path, mac: str) -> None:
    assert exchange(write(pcap, _RECORDED), mac) == _LEASE


def test_a_lease_is_the_last_that_was_granted(pcap: Path, tmp_path: Path) -> None:
    before = write(tmp_path / "before.pcap", _RECORDED)
    assert lease([before, pcap], _MAC.upper()) == _LEASE
    longer = frame(bootp(Kind.ACK, grant() + option(58, bytes(4)), xid=7, yiaddr=_MINE))
    assert lease([before, write(pcap, [renewal(), longer])], _MAC) == _LEASE
    assert lease([before, write(pcap, [renewal(), nak(xid=8)])], _MAC) == _LEASE


@pytest.mark.parametrize(
    "since",
    [
        [renewal(), nak(xid=7)],
        [discover(xid=5)],
        [decline()],
        [discover(xid=5), ack(xid=5)],
        [discover(xid=5), offer(xid=5), request(xid=5)],
        [discover(xid=5), offer(xid=5), request(xid=5, mac=_OTHER), ack(xid=5, mac=_OTHER)],
    ],
    ids=["refused", "begun-anew", "declined", "not-asked-for", "not-answered", "anothers"],
)
def test_a_lease_that_is_lost_is_none(pcap: Path, since: list[bytes]) -> None:
    with pytest.raises(NodeFailure, match=f"{_MAC} holds no lease; seen on its wire: DISCOVER, OFFER, REQUEST, ACK, "):
        lease([write(pcap, [*_RECORDED, *since])], _MAC)


def test_what_is_kept_of_a_capture_is_its_dhcp(pcap: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dhcp.pcap"
    keep([write(pcap, [b"x" * 60, *_RECORDED, bytes(60)])], kept)
    assert list(frames(kept)) == _RECORDED


def test_dhcpcds_record_is_the_ack_without_its_headers() -> None:
    assert record_lease(_RECORDED[3][_PAYLOAD_AT:]) == _LEASE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no BOOTP message"),
        (_RECORDED[3][_PAYLOAD_AT:_OPTIONS_AT], "no message type"),
        (_RECORDED[3][_PAYLOAD_AT : _OPTIONS_AT + 4], "option 54 does not end"),
        (_RECORDED[1][_PAYLOAD_AT:], "is a DHCP OFFER, not an ACK"),
        (bootp(Kind.ACK, yiaddr=_MINE), "ACK of 10.0.2.15 has no server identifier, no lease time, no subnet mask"),
        (bootp(Kind.ACK, grant(mask="0.0.0.255"), yiaddr=_MINE), "has 0.0.0.255 for a subnet mask"),
        (bootp(Kind.ACK, grant(mask="255.0.255.0"), yiaddr=_MINE), "has 255.0.255.0 for a subnet mask"),
    ],
    ids=["empty", "no-options", "cut", "offer", "grants-nothing", "host-mask", "mask-with-a-hole"],
)
def test_a_record_without_a_lease_is_named(content: bytes, words: str) -> None:
    with pytest.raises(NodeFailure, match=words):
        record_lease(content)


@pytest.mark.parametrize("length", [0, 1, 24, 32])
def test_every_length_of_mask_is_a_network(length: int) -> None:
    mask = str(ipaddress.IPv4Network(f"0.0.0.0/{length}").netmask)
    content = bootp(Kind.ACK, grant(mask=mask), yiaddr=_MINE)
    assert record_lease(content).address == ipaddress.IPv4Interface(f"{_MINE}/{length}")


def test_routers_and_dns_servers_keep_their_order(pcap: Path) -> None:
    both = option(3, address("10.0.2.9") + address("10.0.2.8")) + option(6, address("10.0.2.7") + address("10.0.2.6"))
    message = only(pcap, bootp(Kind.ACK, both))
    assert [str(router) for router in message.routers] == ["10.0.2.9", "10.0.2.8"]
    assert [str(server) for server in message.dns_servers] == ["10.0.2.7", "10.0.2.6"]


def test_padding_is_skipped_and_nothing_is_read_behind_the_end(pcap: Path) -> None:
    message = only(pcap, bootp(Kind.DISCOVER, b"\0\0" + option(12, b"kios-node\0") + b"\0\xff" + option(50, address(_MINE))))
    assert (message.hostname, message.requested) == ("kios-node", None)


def test_a_hostname_of_any_bytes_is_a_name(pcap: Path) -> None:
    assert only(pcap, bootp(Kind.DISCOVER, option(12, b"k\xff"))).hostname == "k\N{REPLACEMENT CHARACTER}"


def test_an_option_in_parts_is_joined(pcap: Path) -> None:
    assert only(pcap, bootp(Kind.DISCOVER, option(12, b"kios-") + option(12, b"node"))).hostname == "kios-node"


@pytest.mark.parametrize(
    ("overload", "hostname", "requested"),
    [(0, None, None), (1, "in-file", None), (2, None, _MINE), (3, "in-file", _MINE)],
    ids=["neither", "file", "sname", "both"],
)
def test_options_go_on_where_option_52_says(pcap: Path, overload: int, hostname: str | None, requested: str | None) -> None:
    file, sname = option(12, b"in-file") + b"\xff", option(50, address(_MINE))
    message = only(pcap, bootp(Kind.DISCOVER, option(52, bytes((overload,))), file=file, sname=sname))
    assert message.hostname == hostname
    assert message.requested == (requested and ipaddress.IPv4Address(requested))


@pytest.mark.parametrize(
    "packets",
    [
        [discover(), offer(), request(), ack()],
        [discover(), discover(), offer(), discover(), offer(), request(), request(), ack(), ack()],
        [discover(), offer(_RIVAL, server="10.0.2.99"), offer(), request(), ack()],
        [discover(mac=_OTHER), discover(), offer(_RIVAL, mac=_OTHER), offer(), request(), ack(), nak(xid=9)],
        [discover(), discover(xid=2), offer(xid=2), request(xid=2), ack(xid=2)],
        [reboot(xid=5), nak(xid=5), discover(), offer(), request(), ack()],
        [discover(), offer(), request(), nak(), discover(), offer(), request(), ack()],
        [discover(), offer(), request(), ack(), renewal(), frame(bootp(Kind.NAK, xid=7))],
        [decline(), discover(), offer(), request(), ack()],
        [discover(), offer(_RIVAL, server=_RIVAL), offer(), request(_RIVAL, server=_RIVAL), request(), ack()],
    ],
    ids=[
        "once",
        "sent-again",
        "two-servers",
        "another-client",
        "new-transaction",
        "after-a-refused-reboot",
        "same-xid-after-a-nak",
        "then-a-renewal",
        "after-a-decline",
        "asked-another-server-first",
    ],
)
def test_a_completed_exchange_gives_its_lease(pcap: Path, packets: list[bytes]) -> None:
    assert exchange(write(pcap, packets), _MAC) == _LEASE


@pytest.mark.parametrize(
    ("packets", "words"),
    [
        ([discover(mac=_OTHER)] * 2, f"{_MAC} sent no DHCP message, 2 of others were seen"),
        ([discover()] * 3, f"DISCOVER was sent 3 times and nobody offered; seen of {_MAC}: 3 x DISCOVER"),
        ([discover(), offer(xid=2)], f"DISCOVER was sent once and nobody offered; seen of {_MAC}: DISCOVER, OFFER"),
        ([discover(), offer(mac=_OTHER)], "DISCOVER was sent once and nobody offered"),
        ([offer(), discover()], "DISCOVER was sent once and nobody offered"),
        ([discover(), offer()], "OFFER of 10.0.2.15 by 10.0.2.2 came, nothing requested it"),
        ([discover(), request(), offer()], "OFFER of 10.0.2.15 by 10.0.2.2 came, nothing requested it"),
        ([discover(), offer(), request(_RIVAL)], "REQUEST is for 10.0.2.200 of 10.0.2.2, which is not what was offered"),
        ([discover(), offer(), request(server=_RIVAL)], "REQUEST is for 10.0.2.15 of 10.0.2.200, which is not"),
        ([discover(), offer(), request(), request()], "REQUEST was sent 2 times and nobody answered"),
        ([discover(), offer(), ack(), request()], "REQUEST was sent once and nobody answered"),
        ([discover(), offer(), request(), nak()], r"REQUEST was refused \(NAK by 10.0.2.2\)"),
        ([discover(), offer(), request(), ack(_RIVAL)], "ACK is for another address than the OFFER: 10.0.2.200, not 10.0.2.15"),
        ([discover(), offer(), request(), ack(server=_RIVAL)], "ACK is by another server than the OFFER: 10.0.2.200, not"),
        ([discover(), offer(), request(), ack(), decline()], "ACK of 10.0.2.15 came, and the client declined it"),
        ([discover(), offer(), request(), ack(), discover(xid=2)], "DISCOVER was sent once and nobody offered"),
        (
            [discover(), offer(), request(), frame(bootp(Kind.ACK, option(54, address(_GATEWAY)), yiaddr=_MINE))],
            "no lease time",
        ),
        ([reboot(), ack()], r"asked for 10.0.2.15, which it had from before \(INIT-REBOOT\); seen of .*: REQUEST, ACK"),
        ([renewal()], r"asked to keep 10.0.2.15, which it has \(RENEWING or REBINDING\)"),
        ([request(), ack()], "no DISCOVER was seen before the REQUEST for 10.0.2.15 of 10.0.2.2"),
        ([frame(bootp(Kind.INFORM))], "no DISCOVER was sent; seen of .*: INFORM"),
    ],
    ids=[
        "silent-node",
        "no-offer",
        "offer-of-another-transaction",
        "offer-to-another-client",
        "offer-before-discover",
        "no-request",
        "request-before-offer",
        "request-for-another-address",
        "request-to-another-server",
        "no-answer",
        "ack-before-request",
        "refused",
        "ack-for-another-address",
        "ack-by-another-server",
        "declined",
        "begun-anew",
        "ack-that-grants-nothing",
        "init-reboot",
        "renewal-only",
        "discover-not-seen",
        "inform-only",
    ],
)
def test_an_exchange_that_is_not_complete_says_what_is_missing(pcap: Path, packets: list[bytes], words: str) -> None:
    with pytest.raises(NodeFailure, match=words):
        exchange(write(pcap, packets), _MAC)


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
        changed(38, struct.pack("!H", len(discover()) - _UDP_AT + 1)),
        changed(_PAYLOAD_AT, b"\x02"),
        changed(_PAYLOAD_AT + 1, b"\x06"),
        changed(_PAYLOAD_AT + 2, b"\x10"),
        changed(_PAYLOAD_AT + 236, b"\0"),
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


_options = st.one_of(
    st.binary(max_size=80),
    st.lists(st.builds(option, st.integers(0, 255), st.binary(max_size=9))).map(b"".join),
)
_garbage = st.one_of(
    st.binary(max_size=400),
    st.binary(max_size=40).map(lambda tail: discover()[:_OPTIONS_AT] + tail),
    st.builds(
        lambda kind, options, file, sname, port: frame(bootp(kind, options, file=file[:128], sname=sname[:64]), port),
        st.integers(0, 10),
        _options,
        _options,
        _options,
        st.sampled_from([67, 68]),
    ),
    st.builds(
        lambda whole, at, value: with_checksum(whole[: at % len(whole)] + value + whole[at % len(whole) + len(value) :]),
        st.sampled_from(_RECORDED),
        st.integers(14, 400),
        st.binary(max_size=4),
    ),
)


@settings(max_examples=300, deadline=None)
@given(noise=st.lists(_garbage, max_size=4))
def test_no_frame_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, noise: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pcap"
    write(path, [*_RECORDED[:2], *noise, *_RECORDED[2:]])
    assert len(list(frames(path))) == 4 + len(noise)
    seen = messages(path)
    assert seen[:2] + seen[-2:] == messages(write(path, _RECORDED))


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=400), _options.map(lambda options: bootp(Kind.ACK, options, yiaddr=_MINE))))
def test_a_record_of_anything_is_a_lease_or_a_verdict(content: bytes) -> None:
    with contextlib.suppress(NodeFailure):
        assert record_lease(content).seconds >= 0
