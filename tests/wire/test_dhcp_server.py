"""A DHCP server of the test's own: what it answers, by our reading of its frames and by scapy's."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from harness.errors import InputError
from harness.wire import dhcp
from harness.wire.dhcp import Kind, Message
from harness.wire.dhcp_server import DhcpServer
from harness.wire.grant import (
    Edit,
    Grant,
    as_bootp,
    for_another_client,
    from_another_mac,
    overloaded,
    relayed,
    with_another_xid,
)
from harness.wire.station import Bystander, Neighbour

_MAC = "52:54:00:6b:69:6f"
_XID = 0x4B85C59C


def asked(kind: str, *options: object, ciaddr: str = "0.0.0.0", mac: str = _MAC) -> bytes:
    """A client's message as scapy makes it."""
    head = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=ciaddr, dst="255.255.255.255") / UDP(sport=68, dport=67)
    chaddr = bytes.fromhex(mac.replace(":", ""))
    return bytes(head / BOOTP(xid=_XID, chaddr=chaddr, ciaddr=ciaddr) / DHCP(options=[("message-type", kind), *options, "end"]))


def request(address: str = "10.0.2.15", server: str = "10.0.2.2") -> bytes:
    return asked("request", ("requested_addr", address), ("server_id", server))


def frames_of(station: Neighbour, content: bytes, *, taken: bool = True) -> list[bytes]:
    said: list[tuple[bytes, float]] = []
    assert station.hear(content, lambda frame, delay: said.append((frame, delay))) is taken
    assert all(delay == 0 for _, delay in said)
    return [frame for frame, _ in said]


def frame_of(station: Neighbour, content: bytes) -> bytes:
    [frame] = frames_of(station, content)
    return frame


def answer(server: DhcpServer, content: bytes) -> Message:
    message = dhcp.message_in(frame_of(server, content))
    assert message is not None
    return message


def options_of(frame: bytes) -> dict[Any, Any]:
    """By scapy's reading."""
    options = Ether(frame)[DHCP].options
    return {option[0]: option[1:] for option in options if isinstance(option, tuple)}


def test_what_is_asked_for_is_offered_and_granted() -> None:
    server = DhcpServer(Grant())
    for content, kind in ((asked("discover"), Kind.OFFER), (request(), Kind.ACK)):
        said = answer(server, content)
        assert (said.kind, said.xid, said.client_mac) == (kind, _XID, _MAC)
        assert (said.yiaddr, said.server, said.mask) == tuple(map(IPv4Address, ("10.0.2.15", "10.0.2.2", "255.255.255.0")))
        assert (said.routers, said.dns_servers) == ((IPv4Address("10.0.2.2"),), (IPv4Address("10.0.2.3"),))
        assert said.lease_seconds == 86400
    assert [message.kind for message in server.heard] == [Kind.DISCOVER, Kind.REQUEST]


def test_a_grant_is_what_scapy_reads() -> None:
    grant = Grant(
        address="192.0.2.7",
        mask="255.255.255.192",
        routers=("192.0.2.1", "192.0.2.2"),
        dns_servers=("192.0.2.3", "192.0.2.4"),
        seconds=600,
        renew_after=60,
        rebind_after=120,
        routes=[("10.0.0.0/8", "192.0.2.9"), ("0.0.0.0/0", "192.0.2.1")],
        domain="kios.test",
        hostname="somebody",
        others=[(43, b"v" * 3)],
    )
    frame = frame_of(DhcpServer(grant), asked("discover"))
    assert Ether(frame)[BOOTP].yiaddr == "192.0.2.7"
    assert options_of(frame) == {
        "message-type": (2,),
        "server_id": ("10.0.2.2",),
        "subnet_mask": ("255.255.255.192",),
        "router": ("192.0.2.1", "192.0.2.2"),
        "name_server": ("192.0.2.3", "192.0.2.4"),
        "domain": (b"kios.test",),
        "hostname": (b"somebody",),
        "classless_static_routes": (["10.0.0.0/8:192.0.2.9", "0.0.0.0/0:192.0.2.1"],),
        "lease_time": (600,),
        "renewal_time": (60,),
        "rebinding_time": (120,),
        "vendor_specific": (b"vvv",),
    }


def test_checksums_are_those_that_scapy_makes() -> None:
    frame = frame_of(DhcpServer(Grant()), asked("discover"))
    read = Ether(frame)
    del read[IP].chksum, read[UDP].chksum
    assert bytes(read) == frame


def test_what_a_grant_leaves_out_is_not_there() -> None:
    said = answer(DhcpServer(Grant(mask=None, routers=(), dns_servers=(), seconds=None)), request())
    assert (said.mask, said.routers, said.dns_servers, said.lease_seconds) == (None, (), (), None)


def test_a_renewal_is_answered_to_the_client_alone() -> None:
    frame = frame_of(DhcpServer(Grant()), asked("request", ciaddr="10.0.2.15"))
    assert (Ether(frame).dst, Ether(frame)[IP].dst) == (_MAC, "10.0.2.15")
    message = dhcp.message_in(frame)
    assert message is not None
    assert (message.kind, message.ciaddr) == (Kind.ACK, IPv4Address("10.0.2.15"))


@pytest.mark.parametrize("content", [request("10.0.2.99"), asked("request", ciaddr="10.0.2.99")])
def test_another_address_is_refused_for_all_to_hear(content: bytes) -> None:
    frame = frame_of(DhcpServer(Grant()), content)
    message = dhcp.message_in(frame)
    assert message is not None
    assert (message.kind, message.yiaddr, message.mask) == (Kind.NAK, IPv4Address(0), None)
    assert (Ether(frame).dst, Ether(frame)[IP].dst) == ("ff:ff:ff:ff:ff:ff", "255.255.255.255")


def test_a_server_refuses_and_accepts_again() -> None:
    server = DhcpServer(Grant())
    server.refuse()
    assert [answer(server, each).kind for each in (asked("discover"), request())] == [Kind.OFFER, Kind.NAK]
    server.accept()
    assert answer(server, request()).kind is Kind.ACK


def test_a_silent_server_hears_and_lets_nobody_else_answer() -> None:
    server = DhcpServer(Grant())
    server.silence()
    assert frames_of(server, asked("discover")) == []
    server.speak()
    assert answer(server, asked("discover")).kind is Kind.OFFER
    assert len(server.heard) == 2


def test_a_server_gives_something_else_from_now_on() -> None:
    server = DhcpServer(Grant())
    server.give(Grant(address="10.0.2.16"))
    assert answer(server, asked("request", ciaddr="10.0.2.15")).kind is Kind.NAK
    assert answer(server, asked("discover")).yiaddr == IPv4Address("10.0.2.16")


def test_who_chose_another_server_is_let_be() -> None:
    one, other = DhcpServer(Grant()), DhcpServer(Grant(address="10.0.2.16"), address="10.0.2.200")
    assert [answer(server, asked("discover")).server for server in (one, other)] == [one.address, other.address]
    assert frames_of(other, request()) == []
    assert answer(one, request()).kind is Kind.ACK


@pytest.mark.parametrize("kind", ["decline", "release"])
def test_what_wants_no_answer_has_none(kind: str) -> None:
    server = DhcpServer(Grant())
    assert frames_of(server, asked(kind)) == []
    assert [message.kind.name.lower() for message in server.heard] == [kind]


def test_who_only_informs_itself_gets_no_lease() -> None:
    said = answer(DhcpServer(Grant(renew_after=1)), asked("inform", ciaddr="10.0.2.15"))
    assert (said.kind, said.yiaddr, said.lease_seconds) == (Kind.ACK, IPv4Address(0), None)


def edited(edit: Edit, grant: Grant | None = None) -> bytes:
    return frame_of(DhcpServer(grant or Grant(), [edit]), request())


def test_an_answer_has_another_xid_or_client() -> None:
    assert Ether(edited(with_another_xid))[BOOTP].xid == _XID ^ 1
    assert Ether(edited(for_another_client))[BOOTP].chaddr[:6] == bytes.fromhex("525400000099")


def test_an_answer_comes_from_another_card_with_the_servers_address() -> None:
    frame = Ether(edited(from_another_mac))
    assert (frame.src, frame[IP].src) == ("52:54:00:00:00:98", "10.0.2.2")
    assert Ether(edited(relayed(IPv4Address("10.0.9.1")))).src != frame.src


def test_a_relayed_answer_names_its_relay() -> None:
    assert Ether(edited(relayed(IPv4Address("10.0.9.1"))))[BOOTP].giaddr == "10.0.9.1"


def test_overloaded_options_are_in_both_fields() -> None:
    frame = edited(overloaded, Grant(renew_after=60))
    assert options_of(frame).keys() == {"message-type", "server_id", "dhcp-option-overload"}
    said = dhcp.message_in(frame)
    plain = dhcp.message_in(frame_of(DhcpServer(Grant(renew_after=60)), request()))
    assert said == plain


def test_options_that_fit_nowhere_are_refused_before_they_are_sent() -> None:
    grant = Grant(dns_servers=[f"10.0.2.{number}" for number in range(40)])
    with pytest.raises(InputError, match="do not fit into a field of 128"):
        DhcpServer(grant, [overloaded])
    server = DhcpServer(Grant(), [overloaded])
    with pytest.raises(InputError, match="do not fit"):
        server.give(grant)
    assert answer(server, asked("discover")).dns_servers == (IPv4Address("10.0.2.3"),)


def test_a_long_option_comes_in_parts() -> None:
    addresses = bytes(range(256)) + bytes(256)
    said = dhcp.message_in(edited(lambda reply: reply, Grant(dns_servers=(), others=[(6, addresses)])))
    assert said is not None
    assert b"".join(address.packed for address in said.dns_servers) == addresses


def test_a_bootp_answer_is_none_of_dhcps() -> None:
    frame = edited(as_bootp)
    assert dhcp.message_in(frame) is None
    assert Ether(frame)[BOOTP].yiaddr == "10.0.2.15"


@pytest.mark.parametrize(
    "wrong", [{"address": "10.0.2"}, {"mask": "/24"}, {"routers": ["router"]}, {"routes": [("10.0.0.1/8", "10.0.2.2")]}]
)
def test_a_grant_of_no_addresses_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="A DHCP server cannot grant this"):
        Grant(**wrong)


def test_a_server_has_an_address_of_its_own() -> None:
    who_has = bytes(Ether(src=_MAC) / ARP(op="who-has", hwsrc=_MAC, psrc="10.0.2.15", pdst="10.0.2.200"))
    [frame] = frames_of(DhcpServer(Grant(), address="10.0.2.200"), who_has, taken=False)
    assert (Ether(frame).dst, Ether(frame)[ARP].hwsrc, Ether(frame)[ARP].psrc) == (_MAC, "52:55:0a:00:02:c8", "10.0.2.200")
    assert frames_of(DhcpServer(Grant()), who_has, taken=False) == []


def test_a_bystander_answers_a_probe_and_nothing_else() -> None:
    probe = bytes(Ether(src=_MAC) / ARP(op="who-has", hwsrc=_MAC, psrc="0.0.0.0", pdst="10.0.2.15"))
    bystander = Bystander("10.0.2.15", "52:54:00:00:00:77")
    [frame] = frames_of(bystander, probe, taken=False)
    assert (Ether(frame)[ARP].op, Ether(frame)[ARP].hwsrc, Ether(frame)[ARP].psrc) == (2, "52:54:00:00:00:77", "10.0.2.15")
    assert frames_of(bystander, asked("discover"), taken=False) == []


@pytest.mark.parametrize("content", [b"", bytes(60), asked("discover")[:100]])
def test_what_is_no_message_is_left_to_others(content: bytes) -> None:
    assert frames_of(DhcpServer(Grant()), content, taken=False) == []


ADDRESSES = st.ip_addresses(v=4).map(str)
SECONDS = st.integers(0, (1 << 32) - 1)
GRANTS = st.builds(
    Grant,
    address=ADDRESSES,
    mask=st.none() | ADDRESSES,
    routers=st.lists(ADDRESSES, max_size=5),
    dns_servers=st.lists(ADDRESSES, max_size=5),
    seconds=st.none() | SECONDS,
    renew_after=st.none() | SECONDS,
    hostname=st.none() | st.from_regex(r"[a-z0-9-]{1,60}", fullmatch=True),
    others=st.lists(st.tuples(st.integers(200, 254), st.binary(max_size=600)), max_size=2),
)


@settings(max_examples=50, deadline=None)
@given(GRANTS, st.sampled_from(["plain", "overloaded"]))
def test_our_reading_of_a_grant_is_what_was_granted(grant: Grant, how: str) -> None:
    try:
        server = DhcpServer(grant, [overloaded] if how == "overloaded" else [])
    except InputError:
        assert how == "overloaded"
        return
    said = answer(server, asked("discover"))
    assert (str(said.yiaddr), said.lease_seconds, said.hostname) == (grant.address, grant.seconds, grant.hostname)
    assert (said.mask and str(said.mask)) == grant.mask
    assert (list(map(str, said.routers)), list(map(str, said.dns_servers))) == (grant.routers, grant.dns_servers)
