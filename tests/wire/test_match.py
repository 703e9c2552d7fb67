"""Which frames are meant: each predicate against frames that scapy made."""

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from harness.wire import frame as read
from harness.wire.dhcp import Kind
from harness.wire.frame import Frame, Way
from harness.wire.match import Match, all_of, any_of, arp, dhcp, dns, everything, received, sent, tcp, udp

_MAC = "52:54:00:6b:69:6f"
ASKS = Ether(src=_MAC) / ARP(op="who-has", hwsrc=_MAC, psrc="10.0.2.15", pdst="10.0.2.2")
DISCOVER = (
    IP() / UDP(sport=68, dport=67) / BOOTP(chaddr=bytes.fromhex("5254006b696f")) / DHCP(options=[("message-type", 1), "end"])
)
QUESTION = IP(src="10.0.2.15", dst="10.0.2.3") / UDP(sport=999) / DNS(qd=DNSQR(qname="kios.test"))
HELLO = IP(src="10.0.2.15", dst="10.0.2.2") / TCP(sport=4000, dport=443, flags="S", options=[("MSS", 1460)]) / b"hello"
FRAMES = {"arp": ASKS, "dhcp": Ether(src=_MAC) / DISCOVER, "dns": Ether() / QUESTION, "tcp": Ether() / HELLO}


def frame(packet: Packet, way: Way = Way.SENT) -> Frame:
    return Frame(way, bytes(packet))


@pytest.mark.parametrize(
    ("match", "meant"),
    [
        (everything, "arp dhcp dns tcp"),
        (sent, "arp dhcp dns tcp"),
        (received, ""),
        (arp, "arp"),
        (dhcp(), "dhcp"),
        (dhcp(Kind.DISCOVER, Kind.REQUEST), "dhcp"),
        (dhcp(Kind.OFFER), ""),
        (udp(), "dhcp dns"),
        (udp(67), "dhcp"),
        (udp(999), "dns"),
        (dns, "dns"),
        (tcp(), "tcp"),
        (tcp(443, 80), "tcp"),
        (tcp(4000), "tcp"),
        (tcp(22), ""),
        (any_of(arp, tcp()), "arp tcp"),
        (all_of(sent, udp(), dns), "dns"),
        (all_of(received, udp()), ""),
    ],
)
def test_a_match_means_what_it_says(match: Match, meant: str) -> None:
    assert " ".join(name for name, packet in FRAMES.items() if match(frame(packet))) == meant


@pytest.mark.parametrize("match", [arp, dhcp(), udp(), tcp(), dns])
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_cut_anywhere_fails_no_match(match: Match, name: str) -> None:
    whole = bytes(FRAMES[name])
    for size in range(len(whole)):
        match(Frame(Way.RECEIVED, whole[:size]))


def test_a_segment_is_read_without_its_options() -> None:
    found = read.segment(bytes(FRAMES["tcp"]))
    assert found is not None
    assert (str(found.source), found.source_port, str(found.destination), found.destination_port) == (
        "10.0.2.15",
        4000,
        "10.0.2.2",
        443,
    )
    assert (found.flags, found.payload) == (2, b"hello")


def test_arp_is_read_as_it_was_sent() -> None:
    found = read.arp(bytes(ASKS))
    assert found is not None
    assert (found.operation, found.sender, str(found.sender_address), str(found.target_address)) == (
        1,
        _MAC,
        "10.0.2.15",
        "10.0.2.2",
    )
