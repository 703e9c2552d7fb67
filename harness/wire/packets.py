"""The frames that a test's neighbours send, made with scapy; imported only if there is a neighbour."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.ntp import NTPHeader
from scapy.packet import Packet

from harness.errors import InputError
from harness.wire.frame import Arp
from harness.wire.grant import Grant, Reply

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_EVERYBODY = IPv4Address("255.255.255.255")
_REPLY = 2
# A longer option is sent in parts (RFC 3396).
_LONGEST_OPTION = 255
_FILE_BYTES, _SNAME_BYTES = 128, 64
# RFC 2132, 9.3
_IN_FILE, _IN_SNAME = 1, 2

# RFC 1035, 3.2.2
_A = 1
_DNS_HEADER_BYTES = 12
_TTL = 60
_NTP_CLIENT = 3
_NTP_BYTES = 48
# By how much NTP's seconds are ahead of those of the epoch (RFC 5905, figure 4).
_FROM_1900 = 2_208_988_800

Option = tuple[object, ...]


def arp_reply(mac: str, address: IPv4Address, asked: Arp) -> bytes:
    """The answer to a request for an address."""
    answer = ARP(op="is-at", hwsrc=mac, psrc=str(address), hwdst=asked.sender, pdst=str(asked.sender_address))
    return bytes(Ether(src=mac, dst=asked.sender) / answer)


def dhcp_frame(reply: Reply, mac: str) -> bytes:
    """A server's answer in a frame; raises InputError if its options do not fit into their fields."""
    # To the client if it has its address, else to all; a client that is refused has none (RFC 2131, 4.1).
    to_one = reply.ciaddr if int(reply.ciaddr) else None
    head = Ether(src=reply.mac or mac, dst=reply.client_mac if to_one else _BROADCAST)
    head /= IP(src=str(reply.server), dst=str(to_one or _EVERYBODY)) / UDP(sport=67, dport=68)
    first, in_file, in_sname = _options_of(reply)
    message = BOOTP(
        op=_REPLY,
        xid=reply.xid,
        ciaddr=str(reply.ciaddr),
        yiaddr=reply.grant.address if reply.grant else "0.0.0.0",
        siaddr=str(reply.server),
        giaddr=str(reply.relay),
        chaddr=bytes.fromhex(reply.client_mac.replace(":", "")),
        sname=_packed(in_sname, _SNAME_BYTES),
        file=_packed(in_file, _FILE_BYTES),
    )
    if reply.kind is None:
        return bytes(head / message)
    return bytes(head / message / DHCP(options=[*first, "end"]))


@dataclass(frozen=True)
class Question:
    """A question for a name's records; `kind` is their type as a number (RFC 1035)."""

    id: int
    name: str
    kind: int
    packet: DNS


def question_in(payload: bytes) -> Question | None:
    """The question in a datagram to a DNS server; None if there is no readable one."""
    # scapy would make up what is missing.
    if len(payload) < _DNS_HEADER_BYTES:
        return None
    try:
        packet = DNS(payload)
        [asked] = packet.qd
        return Question(packet.id, asked.qname.decode().rstrip("."), asked.qtype, packet) if packet.qr == 0 else None
    except Exception:  # A guest may send anything, and scapy raises much.
        return None


def dns_answer(content: bytes, question: Question, answer: IPv4Address | int) -> bytes:
    """The answer to a question in a frame: an address, or the code of a refusal."""
    message = DNS(id=question.id, qr=1, rd=1, ra=1, qd=question.packet.qd)
    if not isinstance(answer, IPv4Address):
        message.rcode = int(answer)
    elif question.kind == _A:
        message.an = [DNSRR(rrname=question.name + ".", type="A", ttl=_TTL, rdata=str(answer))]
    return bytes(_back(content) / message)


def ntp_answer(content: bytes, payload: bytes, now: float) -> bytes | None:
    """The answer to a client's NTP datagram, with a time in seconds of the epoch; None if it is not a request."""
    if len(payload) < _NTP_BYTES:
        return None
    asked = NTPHeader(payload)
    if asked.mode != _NTP_CLIENT:
        return None
    then = now + _FROM_1900
    answer = NTPHeader(version=asked.version, mode="server", stratum=1, ref_id="TEST", ref=then, recv=then, sent=then)
    # Copied bit by bit: as a number it would be rounded.
    answer.fields["orig"] = asked.fields["sent"]
    return bytes(_back(content) / answer)


def _back(content: bytes) -> Packet:
    """The headers of the answer to a datagram."""
    asked = Ether(content)
    head = Ether(src=asked.dst, dst=asked.src) / IP(src=asked[IP].dst, dst=asked[IP].src)
    return head / UDP(sport=asked[UDP].dport, dport=asked[UDP].sport)


def readdressed(
    content: bytes, source: tuple[IPv4Address, int] | None = None, destination: tuple[IPv4Address, int] | None = None
) -> bytes:
    """A TCP segment's frame with another source or destination, and correct checksums."""
    changed = Ether(content)
    if source:
        changed[IP].src, changed[TCP].sport = str(source[0]), source[1]
    if destination:
        changed[IP].dst, changed[TCP].dport = str(destination[0]), destination[1]
    del changed[IP].chksum, changed[TCP].chksum
    return bytes(changed)


def _options_of(reply: Reply) -> tuple[list[Option], list[Option], list[Option]]:
    """The options for the options field, for `file`, and for `sname`."""
    if reply.kind is None:
        return [], [], []
    first: list[Option] = [("message-type", int(reply.kind)), ("server_id", str(reply.server))]
    settings, times, long = _settings(reply.grant), _times(reply.grant), _others(reply.grant)
    in_file = settings if "file" in reply.overloaded else []
    in_sname = times if "sname" in reply.overloaded else []
    if reply.overloaded:
        first.append(("dhcp-option-overload", _IN_FILE * bool(in_file) | _IN_SNAME * bool(in_sname)))
    first += ([] if in_file else settings) + ([] if in_sname else times) + long
    return first, in_file, in_sname


def _times(grant: Grant | None) -> list[Option]:
    if grant is None:
        return []
    times = {"lease_time": grant.seconds, "renewal_time": grant.renew_after, "rebinding_time": grant.rebind_after}
    return [(name, seconds) for name, seconds in times.items() if seconds is not None]


def _settings(grant: Grant | None) -> list[Option]:
    if grant is None:
        return []
    found: list[Option] = []
    if grant.mask is not None:
        found.append(("subnet_mask", grant.mask))
    if grant.routers:
        found.append(("router", *grant.routers))
    if grant.dns_servers:
        found.append(("name_server", *grant.dns_servers))
    if grant.domain is not None:
        found.append(("domain", grant.domain.encode()))
    if grant.hostname is not None:
        found.append(("hostname", grant.hostname.encode()))
    if grant.routes:
        found.append(("classless_static_routes", *(f"{network}:{router}" for network, router in grant.routes)))
    return found


def _others(grant: Grant | None) -> list[Option]:
    return [
        (code, value[at : at + _LONGEST_OPTION])
        for code, value in (grant.others if grant else ())
        for at in range(0, max(1, len(value)), _LONGEST_OPTION)
    ]


def _packed(options: Sequence[Option], size: int) -> bytes:
    if not options:
        return b""
    packed = bytes(DHCP(options=[*options, "end"]))
    if len(packed) > size:
        raise InputError(f"{len(packed)} bytes of options do not fit into a field of {size}: leave some out.")
    return packed.ljust(size, b"\0")
