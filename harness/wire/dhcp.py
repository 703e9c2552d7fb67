"""How a node gets its address: DHCP on the wire, and dhcpcd's record of it (RFC 2131 and RFC 2132)."""

import enum
import ipaddress
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NodeFailure
from harness.wire.capture import frames, write
from harness.wire.frame import Datagram, datagram

_SERVER_PORT, _CLIENT_PORT = 67, 68
# RFC 2131, 2: op, htype, hlen, xid, ciaddr, yiaddr, chaddr, sname, file; then the magic cookie and the options.
_BOOTP = struct.Struct("!BBBxI4x4s4s8x16s64s128s")
_COOKIE = bytes((99, 130, 83, 99))
_BOOTREQUEST, _BOOTREPLY = 1, 2
_ETHERNET, _MAC_BYTES = 1, 6
_IN_FILE, _IN_SNAME = 1, 2


class Kind(enum.IntEnum):
    """The type of a message, as in its option 53 (RFC 2132, 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


_FROM_SERVER = frozenset({Kind.OFFER, Kind.ACK, Kind.NAK})


class _Option(enum.IntEnum):
    """The options that are read, each with its section of RFC 2132."""

    PAD = 0  # 3.1
    MASK = 1  # 3.3
    ROUTERS = 3  # 3.5
    DNS_SERVERS = 6  # 3.8
    HOSTNAME = 12  # 3.14
    REQUESTED_ADDRESS = 50  # 9.1
    LEASE_SECONDS = 51  # 9.2
    OVERLOAD = 52  # 9.3
    KIND = 53  # 9.6
    SERVER = 54  # 9.7
    CLIENT_ID = 61  # 9.14
    END = 255  # 3.2


@dataclass(frozen=True)
class Message:
    """One DHCP message; None or `()` is a missing option, 0.0.0.0 a field that is not filled in.

    `client_mac` is written as `52:54:00:6b:69:6f`. `ciaddr` is the address that the client says it has, `yiaddr` the one that
    the server gives it. `server` is the server identifier, `client_id` the raw option, whose first byte is its type.
    """

    kind: Kind
    xid: int
    client_mac: str
    ciaddr: ipaddress.IPv4Address
    yiaddr: ipaddress.IPv4Address
    server: ipaddress.IPv4Address | None
    mask: ipaddress.IPv4Address | None
    routers: tuple[ipaddress.IPv4Address, ...]
    dns_servers: tuple[ipaddress.IPv4Address, ...]
    lease_seconds: int | None
    requested: ipaddress.IPv4Address | None
    hostname: str | None
    client_id: bytes | None


@dataclass(frozen=True)
class Lease:
    """What a server grants; `seconds` 4294967295 is for ever (RFC 2131, 3.3)."""

    address: ipaddress.IPv4Interface
    routers: tuple[ipaddress.IPv4Address, ...]
    dns_servers: tuple[ipaddress.IPv4Address, ...]
    seconds: int
    server: ipaddress.IPv4Address


class _Malformed(Exception):  # noqa: N818 - not an error: a wire carries more than DHCP
    """Bytes are not a DHCP message; in words, why."""


def messages(capture: Path) -> list[Message]:
    """Returns the DHCP messages written so far, in order of time; other frames, and broken ones, are skipped."""
    return [message for content in frames(capture) if (message := message_in(content))]


def message_in(content: bytes) -> Message | None:
    """Returns the DHCP message in an Ethernet frame, None if there is none, or if it is broken."""
    carrier = datagram(content)
    try:
        return _in_datagram(carrier) if carrier else None
    except _Malformed:
        return None


def bootp_answers(captures: Iterable[Path], mac: str) -> list[ipaddress.IPv4Address]:
    """The addresses that a NIC was given by BOOTP, without DHCP's options (RFC 951), which is not a lease."""
    given = []
    for content in itertools.chain.from_iterable(map(frames, captures)):
        carrier = datagram(content)
        if carrier is None or carrier.destination_port != _CLIENT_PORT or len(carrier.payload) < _BOOTP.size:
            continue
        operation, _, _, _, _, yiaddr, chaddr, *_ = _BOOTP.unpack_from(carrier.payload)
        is_dhcp = carrier.payload.startswith(_COOKIE, _BOOTP.size)
        if operation == _BOOTREPLY and not is_dhcp and chaddr[:_MAC_BYTES].hex(":") == mac.lower():
            given.append(ipaddress.IPv4Address(yiaddr))
    return given


def exchange(capture: Path, mac: str) -> Lease:
    """Returns the lease that a NIC got by DISCOVER, OFFER, REQUEST and ACK, in its last transaction that began with DISCOVER.

    Raises NodeFailure if one of them is missing or does not fit, and says what was seen instead. Each may have been repeated.
    Earlier transactions do not count, because a client that sends DISCOVER has no lease.
    """
    heard = messages(capture)
    ours = [message for message in heard if message.client_mac == mac.lower()]
    if not ours:
        raise NodeFailure(f"{mac} sent no DHCP message, {len(heard)} of others were seen")
    try:
        return _lease(_acknowledgement(ours))
    except NodeFailure as failure:
        raise NodeFailure(f"{failure}; seen of {mac}: {summary(ours)}{_by_bootp([capture], mac)}") from None


def lease(captures: Sequence[Path], mac: str) -> Lease:
    """Returns the lease that a NIC holds, as seen on its wire: the last ACK that answers a REQUEST of its own.

    `captures` are in order of time. A lease ends by a NAK, and by what a client sends that has none (DISCOVER) or wants none
    (DECLINE, RELEASE). Raises NodeFailure if the NIC holds none.
    """
    ours = [each for capture in captures for each in messages(capture) if each.client_mac == mac.lower()]
    held: Message | None = None
    asked: set[int] = set()
    for message in ours:
        match message.kind:
            case Kind.REQUEST:
                asked.add(message.xid)
            case Kind.ACK if message.xid in asked:
                held = message
            case Kind.NAK if message.xid in asked:
                held = None
            case Kind.DISCOVER | Kind.DECLINE | Kind.RELEASE:
                held = None
    if held is None:
        seen = summary(ours) or "no DHCP message"
        raise NodeFailure(f"{mac} holds no lease; seen on its wire: {seen}{_by_bootp(captures, mac)}")
    return _lease(held)


def keep(captures: Iterable[Path], kept: Path) -> None:
    """Writes a capture with the DHCP messages of other captures, which are in order of time."""
    write(kept, (content for capture in captures for content in frames(capture) if message_in(content)))


def record_lease(content: bytes) -> Lease:
    """Returns the lease in a file that dhcpcd keeps in /var/db/dhcpcd: the ACK as received, without its UDP header.

    Raises NodeFailure if it has anything else (dhcpcd 9, src/dhcp.c: dhcp_bind writes the message).
    """
    try:
        message = _in_payload(content)
    except _Malformed as flaw:
        raise NodeFailure(f"dhcpcd's record of its lease is no DHCP message: {flaw}") from flaw
    if message.kind is not Kind.ACK:
        raise NodeFailure(f"dhcpcd's record of its lease is a DHCP {message.kind.name}, not an ACK")
    return _lease(message)


def _by_bootp(captures: Iterable[Path], mac: str) -> str:
    given = bootp_answers(captures, mac)
    return f"; BOOTP, which leases nothing, gave it {given[-1]}" if given else ""


def _acknowledgement(ours: Sequence[Message]) -> Message:
    """Returns the ACK that completes the last transaction begun with a DISCOVER; raises NodeFailure with the missing step."""
    discovers = _of(ours, Kind.DISCOVER)
    if not discovers:
        raise NodeFailure(_without_discover(ours))
    transaction = [message for message in ours if message.xid == discovers[-1].xid]

    offered = _from_first(transaction, Kind.DISCOVER)
    offers = _of(offered, Kind.OFFER)
    if not offers:
        raise NodeFailure(f"DISCOVER was sent {_times(_of(transaction, Kind.DISCOVER))} and nobody offered")
    requested = _from_first(offered, Kind.OFFER)
    requests = _of(requested, Kind.REQUEST)
    if not requests:
        raise NodeFailure(f"OFFER of {offers[-1].yiaddr} by {offers[-1].server} came, nothing requested it")
    request = requests[-1]
    if (request.requested, request.server) not in [(offer.yiaddr, offer.server) for offer in offers]:
        raise NodeFailure(f"REQUEST is for {request.requested} of {request.server}, which is not what was offered")
    answers = _of(_from_first(requested, Kind.REQUEST), Kind.ACK, Kind.NAK)
    if not answers:
        raise NodeFailure(f"REQUEST was sent {_times(requests)} and nobody answered")
    answer = answers[-1]
    if answer.kind is Kind.NAK:
        raise NodeFailure(f"REQUEST was refused (NAK by {answer.server})")
    if answer.yiaddr != request.requested:
        raise NodeFailure(f"ACK is for another address than the OFFER: {answer.yiaddr}, not {request.requested}")
    if answer.server != request.server:
        raise NodeFailure(f"ACK is by another server than the OFFER: {answer.server}, not {request.server}")
    # The client picks a new xid for it (RFC 2131, 4.4.1).
    if _of(ours[ours.index(answer) :], Kind.DECLINE):
        raise NodeFailure(f"ACK of {answer.yiaddr} came, and the client declined it: another host has the address")
    return answer


def _without_discover(ours: Sequence[Message]) -> str:
    """Why there is no DISCOVER, by the content of the first REQUEST (RFC 2131, table 4)."""
    requests = _of(ours, Kind.REQUEST)
    if not requests:
        return "no DISCOVER was sent"
    request = requests[0]
    if request.server:
        return f"no DISCOVER was seen before the REQUEST for {request.requested} of {request.server}"
    if request.requested:
        return f"no DISCOVER was sent: the client asked for {request.requested}, which it had from before (INIT-REBOOT)"
    return f"no DISCOVER was sent: the client asked to keep {request.ciaddr}, which it has (RENEWING or REBINDING)"


def _of(given: Sequence[Message], *kinds: Kind) -> list[Message]:
    return [message for message in given if message.kind in kinds]


def _from_first(given: Sequence[Message], kind: Kind) -> list[Message]:
    return list(itertools.dropwhile(lambda message: message.kind is not kind, given))


def _times(sent: Sequence[Message]) -> str:
    return "once" if len(sent) == 1 else f"{len(sent)} times"


def summary(given: Sequence[Message]) -> str:
    """The kinds of these messages, in order, in words."""
    runs = ((kind, len(list(run))) for kind, run in itertools.groupby(message.kind for message in given))
    return ", ".join(kind.name if length == 1 else f"{length} x {kind.name}" for kind, length in runs)


def _lease(ack: Message) -> Lease:
    """Raises NodeFailure if `ack` lacks what a lease must have (RFC 2131, table 3; a node's address needs a mask too)."""
    if ack.server is None or ack.lease_seconds is None or ack.mask is None:
        needed = {"server identifier": ack.server, "lease time": ack.lease_seconds, "subnet mask": ack.mask}
        lacking = [name for name, value in needed.items() if value is None]
        raise NodeFailure(f"ACK of {ack.yiaddr} has no {', no '.join(lacking)}")
    length = int(ack.mask).bit_count()
    # Not left to `ipaddress`, which also accepts 0.0.0.255, as a host mask.
    if int(ack.mask) != (1 << 32) - (1 << 32 - length):
        raise NodeFailure(f"ACK of {ack.yiaddr} has {ack.mask} for a subnet mask, whose ones are not all in front")
    address = ipaddress.IPv4Interface((ack.yiaddr, length))
    return Lease(address, ack.routers, ack.dns_servers, ack.lease_seconds, ack.server)


def _in_datagram(carrier: Datagram) -> Message:
    port = carrier.destination_port
    if port not in (_SERVER_PORT, _CLIENT_PORT):
        raise _Malformed("not for a DHCP port")
    message = _in_payload(carrier.payload)
    if (port == _CLIENT_PORT) != (message.kind in _FROM_SERVER):
        raise _Malformed(f"{message.kind.name} for port {port}")
    return message


def _in_payload(payload: bytes) -> Message:
    if not payload.startswith(_COOKIE, _BOOTP.size):
        raise _Malformed("no BOOTP message with DHCP's magic cookie")
    operation, hardware, hardware_bytes, xid, ciaddr, yiaddr, chaddr, sname, file = _BOOTP.unpack_from(payload)
    if (hardware, hardware_bytes) != (_ETHERNET, _MAC_BYTES):
        raise _Malformed("not from an Ethernet client")
    options = _Options.read(payload[_BOOTP.size + len(_COOKIE) :], file, sname)
    kind = options.kind()
    if operation != (_BOOTREPLY if kind in _FROM_SERVER else _BOOTREQUEST):
        raise _Malformed(f"{kind.name} with op {operation}")
    hostname = options.values.get(_Option.HOSTNAME)
    return Message(
        kind=kind,
        xid=xid,
        client_mac=chaddr[:_MAC_BYTES].hex(":"),
        ciaddr=ipaddress.IPv4Address(ciaddr),
        yiaddr=ipaddress.IPv4Address(yiaddr),
        server=options.address(_Option.SERVER),
        mask=options.address(_Option.MASK),
        routers=options.addresses(_Option.ROUTERS),
        dns_servers=options.addresses(_Option.DNS_SERVERS),
        lease_seconds=options.number(_Option.LEASE_SECONDS, 4),
        requested=options.address(_Option.REQUESTED_ADDRESS),
        hostname=None if hostname is None else hostname.rstrip(b"\0").decode(errors="replace"),
        client_id=options.values.get(_Option.CLIENT_ID),
    )


@dataclass(frozen=True)
class _Options:
    """The options of one message by code; the parts of a split option are joined (RFC 3396)."""

    values: dict[int, bytes]

    @classmethod
    def read(cls, field: bytes, file: bytes, sname: bytes) -> "_Options":
        """Reads the options field, and then `file` and `sname` if option 52 says that they have options too."""
        values: dict[int, bytes] = {}
        _collect(field, values)
        overload = cls(values).number(_Option.OVERLOAD, 1) or 0
        if overload & _IN_FILE:
            _collect(file, values)
        if overload & _IN_SNAME:
            _collect(sname, values)
        return cls(values)

    def kind(self) -> Kind:
        number = self.number(_Option.KIND, 1)
        if number not in list(Kind):
            raise _Malformed("no message type" if number is None else f"message type {number}")
        return Kind(number)

    def number(self, option: _Option, size: int) -> int | None:
        value = self.values.get(option)
        if value is not None and len(value) != size:
            raise _Malformed(f"option {option} of {len(value)} bytes")
        return None if value is None else int.from_bytes(value)

    def address(self, option: _Option) -> ipaddress.IPv4Address | None:
        number = self.number(option, 4)
        return None if number is None else ipaddress.IPv4Address(number)

    def addresses(self, option: _Option) -> tuple[ipaddress.IPv4Address, ...]:
        value = self.values.get(option, b"")
        if len(value) % 4:
            raise _Malformed(f"option {option} of {len(value)} bytes")
        return tuple(ipaddress.IPv4Address(word) for (word,) in struct.iter_unpack("!I", value))


def _collect(field: bytes, values: dict[int, bytes]) -> None:
    for code, value in _each(field):
        values[code] = values.get(code, b"") + value


def _each(field: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields codes and values up to the end option, or to the end of the field if there is none."""
    at = 0
    while at < len(field) and field[at] != _Option.END:
        if field[at] == _Option.PAD:
            at += 1
            continue
        start = at + 2
        if start > len(field) or start + field[at + 1] > len(field):
            raise _Malformed(f"option {field[at]} does not end")
        yield field[at], field[start : start + field[at + 1]]
        at = start + field[at + 1]
