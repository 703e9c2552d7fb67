"""What the test's own DHCP server grants, and edits that make its answers unusual (RFC 2131, RFC 2132)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from harness.errors import InputError
from harness.wire.dhcp import Kind

_NOWHERE = IPv4Address(0)


@dataclass(frozen=True)
class Grant:
    """What a server grants, by default the same as QEMU's. None or `()` leaves an option out.

    Addresses are texts, times are in seconds; `renew_after` and `rebind_after` are T1 and T2. `routes` are those of option 121,
    each a network as `10.0.0.0/8` with its router. `others` are more options by code; a value may have more than 255 bytes
    (RFC 3396). Raises InputError for an invalid address.
    """

    address: str = "10.0.2.15"
    mask: str | None = "255.255.255.0"
    routers: Sequence[str] = ("10.0.2.2",)
    dns_servers: Sequence[str] = ("10.0.2.3",)
    seconds: int | None = 86400
    renew_after: int | None = None
    rebind_after: int | None = None
    routes: Sequence[tuple[str, str]] = ()
    domain: str | None = None
    hostname: str | None = None
    others: Sequence[tuple[int, bytes]] = ()

    def __post_init__(self) -> None:
        """Raises InputError for what could not be sent."""
        addresses = [self.address, *([self.mask] if self.mask else []), *self.routers, *self.dns_servers]
        try:
            for address in (*addresses, *(router for _, router in self.routes)):
                IPv4Address(address)
            for network, _ in self.routes:
                IPv4Network(network)
        except ValueError as wrong:
            raise InputError(f"A DHCP server cannot grant this: {wrong}.") from wrong


@dataclass(frozen=True)
class Reply:
    """A message to be sent: its fields, and the grant for its options. With `kind` None it is BOOTP, without options.

    `overloaded` are the fields that have options too: `file`, `sname`. `relay` is the relay agent that it came through, `mac`
    the card that sends it, if that is not the server's.
    """

    kind: Kind | None
    xid: int
    client_mac: str
    ciaddr: IPv4Address
    server: IPv4Address
    grant: Grant | None
    relay: IPv4Address = _NOWHERE
    overloaded: frozenset[str] = field(default_factory=frozenset)
    mac: str = ""


Edit = Callable[[Reply], Reply]


def with_another_xid(reply: Reply) -> Reply:
    """An answer to a question that was never asked."""
    return replace(reply, xid=reply.xid ^ 1)


def for_another_client(reply: Reply) -> Reply:
    """An answer to another client's question."""
    return replace(reply, client_mac="52:54:00:00:00:99")


def from_another_mac(reply: Reply) -> Reply:
    """An answer with the server's address, from a card that is not the server's."""
    return replace(reply, mac="52:54:00:00:00:98")


def relayed(by: IPv4Address) -> Edit:
    """An answer that came through a relay agent."""
    return lambda reply: replace(reply, relay=by)


def overloaded(reply: Reply) -> Reply:
    """An answer with options in the fields `sname` and `file` too (RFC 2132, 9.3)."""
    return replace(reply, overloaded=frozenset({"file", "sname"}))


def as_bootp(reply: Reply) -> Reply:
    """An answer as of 1985, without DHCP's options (RFC 951)."""
    return replace(reply, kind=None)
