"""Servers on a node's network: what they answer, as scapy reads it."""

from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.ntp import NTPHeader

from harness.errors import InputError
from harness.wire.name_server import NameServer, Refusal
from harness.wire.station import Neighbour
from harness.wire.time_server import TimeServer

_MAC, _ROUTER = "52:54:00:6b:69:6f", "52:55:0a:00:02:02"


def datagram(payload: Any, port: int, to: str = "10.0.2.3") -> bytes:
    head = Ether(src=_MAC, dst=_ROUTER) / IP(src="10.0.2.15", dst=to) / UDP(sport=4000, dport=port)
    return bytes(head / payload)


def answers(neighbour: Neighbour, content: bytes) -> list[Any]:
    said: list[bytes] = []
    assert neighbour.hear(content, lambda frame, _: said.append(frame)) is True
    return [Ether(frame) for frame in said]


def question(name: str, kind: str = "A") -> bytes:
    return datagram(DNS(id=7, qd=DNSQR(qname=name, qtype=kind)), 53)


def test_a_name_has_its_address() -> None:
    server = NameServer({"Registry.kios.test.": "192.0.2.1"})
    [said] = answers(server, question("registry.KIOS.test"))
    assert (said.dst, said[IP].src, said[IP].dst, said[UDP].sport, said[UDP].dport) == (
        _MAC,
        "10.0.2.3",
        "10.0.2.15",
        53,
        4000,
    )
    assert (said[DNS].id, said[DNS].qr, said[DNS].rcode, said[DNS].an[0].rdata) == (7, 1, 0, "192.0.2.1")
    assert server.asked == ["registry.KIOS.test"]


def test_a_name_without_an_ipv6_address_is_still_one() -> None:
    [said] = answers(NameServer({"kios.test": "192.0.2.1"}), question("kios.test", "AAAA"))
    assert (said[DNS].rcode, list(said[DNS].an)) == (0, [])


@pytest.mark.parametrize(("name", "code"), [("unknown.test", 3), ("gone.test", 3), ("broken.test", 2), ("secret.test", 5)])
def test_a_name_has_none_for_a_reason(name: str, code: int) -> None:
    names = {"gone.test": Refusal.NO_SUCH_NAME, "broken.test": Refusal.SERVER_FAILURE, "secret.test": Refusal.REFUSED}
    [said] = answers(NameServer(names), question(name))
    assert (said[DNS].rcode, list(said[DNS].an)) == (code, [])


@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, bytes(12), bytes(DNS(qr=1, qd=DNSQR(qname="a.test")))])
def test_what_is_no_question_is_not_answered(payload: bytes) -> None:
    server = NameServer({})
    assert answers(server, datagram(payload, 53)) == []
    assert server.asked == []


def test_an_answer_that_is_no_address_is_refused() -> None:
    with pytest.raises(InputError, match="A DNS server cannot answer this"):
        NameServer({"kios.test": "kios"})


def test_a_client_is_told_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.5)
    server = TimeServer(ahead=3600)
    asked = NTPHeader(bytes(NTPHeader(version=4, mode="client", sent=3_900_000_000.123456789)))
    [said] = answers(server, datagram(asked, 123, "192.0.2.123"))
    assert (said[IP].src, said[UDP].sport, said[NTPHeader].mode, said[NTPHeader].stratum) == ("192.0.2.123", 123, 4, 1)
    assert said[NTPHeader].orig == asked.sent
    # 1900 to 1970 are 2208988800 s (RFC 5905, figure 4).
    assert [float(said[NTPHeader].recv), float(said[NTPHeader].sent)] == [1_700_000_000.5 + 3600 + 2_208_988_800] * 2
    assert server.asked == 1


@pytest.mark.parametrize(
    "payload", [b"", b"abc", bytes(NTPHeader(mode="server", ref=1, sent=1))], ids=["none", "odd", "server"]
)
def test_who_does_not_ask_for_the_time_is_not_told(payload: bytes) -> None:
    assert answers(TimeServer(), datagram(payload, 123)) == []


@pytest.mark.parametrize("neighbour", [lambda: NameServer({}), TimeServer])
def test_what_is_for_others_is_left_to_them(neighbour: Any) -> None:
    assert neighbour().hear(datagram(b"hello", 9), pytest.fail) is False
