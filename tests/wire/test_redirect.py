"""TCP led to one address: both ways, and nothing else."""

from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from harness.wire.fault import Fault
from harness.wire.frame import Frame, Way
from harness.wire.redirect import Redirect

_TO = ("10.0.2.2", 4711)


def through(redirect: Fault, packet: Any, way: Way) -> Any:
    passed: list[Frame] = []
    redirect.take(Frame(way, bytes(packet)), lambda frame, _: passed.append(frame))
    [frame] = passed
    read = Ether(frame.content)
    fresh = read.copy()
    del fresh[IP].chksum, fresh[TCP].chksum
    assert bytes(fresh) == frame.content
    return read


def segment(source: tuple[str, int], destination: tuple[str, int]) -> Any:
    return Ether() / IP(src=source[0], dst=destination[0]) / TCP(sport=source[1], dport=destination[1]) / b"hello"


def ends(packet: Any) -> tuple[tuple[str, int], tuple[str, int]]:
    return (packet[IP].src, packet[TCP].sport), (packet[IP].dst, packet[TCP].dport)


def test_each_connection_has_its_answers_from_where_it_went() -> None:
    redirect = Redirect(80, _TO)
    for port, meant in ((4001, "192.0.2.1"), (4002, "192.0.2.2"), (4001, "192.0.2.3")):
        guest = ("10.0.2.15", port)
        assert ends(through(redirect, segment(guest, (meant, 80)), Way.SENT)) == (guest, _TO)
        assert ends(through(redirect, segment(_TO, guest), Way.RECEIVED)) == ((meant, 80), guest)


def test_everything_else_passes() -> None:
    redirect = Redirect(80, _TO)
    guest = ("10.0.2.15", 4000)
    for way, source, destination in (
        (Way.SENT, guest, ("192.0.2.1", 443)),
        (Way.SENT, guest, _TO),
        (Way.RECEIVED, _TO, guest),
        (Way.RECEIVED, ("10.0.2.2", 80), ("10.0.2.15", 80)),
    ):
        assert ends(through(redirect, segment(source, destination), way)) == (source, destination)
