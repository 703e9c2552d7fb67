"""Leases, by what went over the wire and by dhcpcd's own record."""

import contextlib
import ipaddress
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import NodeFailure
from harness.wire.capture import frames
from harness.wire.dhcp import Kind, Lease, bootp_answers, exchange, keep, lease, record_lease
from tests.wire.bootp import (
    GATEWAY,
    MAC,
    MINE,
    OPTIONS_AT,
    PAYLOAD_AT,
    RECORDED,
    address,
    bootp,
    discover,
    frame,
    option,
    options,
    request,
    write,
)

_OTHER = "52:54:00:00:00:02"
_RIVAL = "10.0.2.200"
_LEASE = Lease(
    address=ipaddress.IPv4Interface("10.0.2.15/24"),
    routers=(ipaddress.IPv4Address(GATEWAY),),
    dns_servers=(ipaddress.IPv4Address("10.0.2.3"),),
    seconds=86400,
    server=ipaddress.IPv4Address(GATEWAY),
)


def offer(given: str = MINE, *, server: str = GATEWAY, xid: int = 1, mac: str = MAC) -> bytes:
    return frame(bootp(Kind.OFFER, grant(server), xid=xid, mac=mac, yiaddr=given))


def ack(given: str = MINE, *, server: str = GATEWAY, xid: int = 1, mac: str = MAC) -> bytes:
    return frame(bootp(Kind.ACK, grant(server), xid=xid, mac=mac, yiaddr=given))


def nak(*, xid: int = 1) -> bytes:
    return frame(bootp(Kind.NAK, option(54, address(GATEWAY)), xid=xid))


def decline() -> bytes:
    return frame(bootp(Kind.DECLINE, option(50, address(MINE)) + option(54, address(GATEWAY)), xid=99))


def reboot(*, xid: int = 1) -> bytes:
    return frame(bootp(Kind.REQUEST, option(50, address(MINE)), xid=xid))


def renewal() -> bytes:
    return frame(bootp(Kind.REQUEST, ciaddr=MINE, xid=7))


def grant(server: str = GATEWAY, mask: str = "255.255.255.0") -> bytes:
    return b"".join(
        [
            option(54, address(server)),
            option(1, address(mask)),
            option(3, address(GATEWAY)),
            option(6, address("10.0.2.3")),
            option(51, struct.pack("!I", 86400)),
        ]
    )


@pytest.mark.parametrize("mac", [MAC, MAC.upper()])
def test_a_recorded_exchange_gives_its_lease(pcap: Path, mac: str) -> None:
    assert exchange(write(pcap, RECORDED), mac) == _LEASE


def test_a_lease_is_the_last_that_was_granted(pcap: Path, tmp_path: Path) -> None:
    before = write(tmp_path / "before.pcap", RECORDED)
    assert lease([before, pcap], MAC.upper()) == _LEASE
    longer = frame(bootp(Kind.ACK, grant() + option(58, bytes(4)), xid=7, yiaddr=MINE))
    assert lease([before, write(pcap, [renewal(), longer])], MAC) == _LEASE
    assert lease([before, write(pcap, [renewal(), nak(xid=8)])], MAC) == _LEASE


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
    with pytest.raises(NodeFailure, match=f"{MAC} holds no lease; seen on its wire: DISCOVER, OFFER, REQUEST, ACK, "):
        lease([write(pcap, [*RECORDED, *since])], MAC)


def old_answer(mac: str = MAC) -> bytes:
    """As of 1985: nothing behind the fields of BOOTP."""
    return frame(bootp(Kind.OFFER, mac=mac, yiaddr=MINE)[:236] + bytes(64))


def test_an_address_by_bootp_is_no_lease_and_told(pcap: Path) -> None:
    capture = write(pcap, [discover(), old_answer(_OTHER), old_answer()])
    assert [str(each) for each in bootp_answers([capture], MAC.upper())] == [MINE]
    with pytest.raises(NodeFailure, match=f"seen on its wire: DISCOVER; BOOTP, which leases nothing, gave it {MINE}$"):
        lease([capture], MAC)
    with pytest.raises(
        NodeFailure, match=f"nobody offered; seen of {MAC}: DISCOVER; BOOTP, which leases nothing, gave it {MINE}$"
    ):
        exchange(capture, MAC)


def test_an_answer_of_dhcps_is_none_of_bootps(pcap: Path) -> None:
    assert bootp_answers([write(pcap, [*RECORDED, frame(bytes(100), 68)])], MAC) == []


def test_what_is_kept_of_a_capture_is_its_dhcp(pcap: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dhcp.pcap"
    keep([write(pcap, [b"x" * 60, *RECORDED, bytes(60)])], kept)
    assert list(frames(kept)) == RECORDED


def test_dhcpcds_record_is_the_ack_without_its_headers() -> None:
    assert record_lease(RECORDED[3][PAYLOAD_AT:]) == _LEASE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no BOOTP message"),
        (RECORDED[3][PAYLOAD_AT:OPTIONS_AT], "no message type"),
        (RECORDED[3][PAYLOAD_AT : OPTIONS_AT + 4], "option 54 does not end"),
        (RECORDED[1][PAYLOAD_AT:], "is a DHCP OFFER, not an ACK"),
        (bootp(Kind.ACK, yiaddr=MINE), "ACK of 10.0.2.15 has no server identifier, no lease time, no subnet mask"),
        (bootp(Kind.ACK, grant(mask="0.0.0.255"), yiaddr=MINE), "has 0.0.0.255 for a subnet mask"),
        (bootp(Kind.ACK, grant(mask="255.0.255.0"), yiaddr=MINE), "has 255.0.255.0 for a subnet mask"),
    ],
    ids=["empty", "no-options", "cut", "offer", "grants-nothing", "host-mask", "mask-with-a-hole"],
)
def test_a_record_without_a_lease_is_named(content: bytes, words: str) -> None:
    with pytest.raises(NodeFailure, match=words):
        record_lease(content)


@pytest.mark.parametrize("length", [0, 1, 24, 32])
def test_every_length_of_mask_is_a_network(length: int) -> None:
    mask = str(ipaddress.IPv4Network(f"0.0.0.0/{length}").netmask)
    content = bootp(Kind.ACK, grant(mask=mask), yiaddr=MINE)
    assert record_lease(content).address == ipaddress.IPv4Interface(f"{MINE}/{length}")


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
    assert exchange(write(pcap, packets), MAC) == _LEASE


@pytest.mark.parametrize(
    ("packets", "words"),
    [
        ([discover(mac=_OTHER)] * 2, f"{MAC} sent no DHCP message, 2 of others were seen"),
        ([discover()] * 3, f"DISCOVER was sent 3 times and nobody offered; seen of {MAC}: 3 x DISCOVER"),
        ([discover(), offer(xid=2)], f"DISCOVER was sent once and nobody offered; seen of {MAC}: DISCOVER, OFFER"),
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
            [discover(), offer(), request(), frame(bootp(Kind.ACK, option(54, address(GATEWAY)), yiaddr=MINE))],
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
        exchange(write(pcap, packets), MAC)


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=400), options.map(lambda options: bootp(Kind.ACK, options, yiaddr=MINE))))
def test_a_record_of_anything_is_a_lease_or_a_verdict(content: bytes) -> None:
    with contextlib.suppress(NodeFailure):
        assert record_lease(content).seconds >= 0
