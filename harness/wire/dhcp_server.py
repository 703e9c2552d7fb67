"""The test's own DHCP server, which replaces QEMU's (RFC 2131)."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address

from harness.wire import dhcp, frame
from harness.wire.cable import Say
from harness.wire.dhcp import Kind, Message
from harness.wire.grant import Edit, Grant, Reply
from harness.wire.station import Neighbour

_SERVER_PORT = 67
_MOST_KEPT = 10_000
_NOWHERE = IPv4Address(0)


class DhcpServer(Neighbour):
    """A server that gives everybody the same grant. `heard` has the messages that it received, even those for others.

    Each of its answers goes through `edits`. To delay, double or lose answers, use the verbs of the wire.
    """

    def __init__(self, grant: Grant, edits: Sequence[Edit] = (), address: IPv4Address | str = "10.0.2.2") -> None:
        super().__init__(address)
        self.heard: list[Message] = []
        self._edits = tuple(edits)
        self._silent = self._refuses = False
        self.give(grant)

    def give(self, grant: Grant) -> None:
        """Gives another grant from now on; a client that asks to keep another address is refused.

        Raises InputError for a grant that does not fit into a message.
        """
        self._packets.dhcp_frame(self._edited(Reply(Kind.OFFER, 0, self.mac, _NOWHERE, self.address, grant)), self.mac)
        self._grant = grant

    def silence(self) -> None:
        """Answers nobody, and keeps QEMU's server from answering."""
        self._silent = True

    def speak(self) -> None:
        """Answers again."""
        self._silent = False

    def refuse(self) -> None:
        """Answers each REQUEST with NAK."""
        self._refuses = True

    def accept(self) -> None:
        """Grants requests again."""
        self._refuses = False

    def serve(self, content: bytes, say: Say) -> bool:
        """See `Neighbour`."""
        carrier = frame.datagram(content)
        if carrier is None or carrier.destination_port != _SERVER_PORT:
            return False
        message = dhcp.message_in(content)
        if message:
            self.heard = [*self.heard, message][-_MOST_KEPT:]
            if not self._silent and (kind := self._kind_of_answer(message)):
                say(self._packets.dhcp_frame(self._answer_to(message, kind), self.mac), 0)
        return True

    def _kind_of_answer(self, message: Message) -> Kind | None:
        match message.kind:
            case Kind.DISCOVER:
                return Kind.OFFER
            case Kind.REQUEST if message.server in (None, self.address):
                wanted = message.requested or message.ciaddr
                return Kind.NAK if self._refuses or wanted != IPv4Address(self._grant.address) else Kind.ACK
            case Kind.INFORM:
                return Kind.ACK
            case _:
                return None

    def _answer_to(self, message: Message, kind: Kind) -> Reply:
        """The answer to a message (RFC 2131, table 3)."""
        grant: Grant | None = self._grant
        if kind is Kind.NAK:
            grant = None
        elif message.kind is Kind.INFORM:
            grant = replace(self._grant, address="0.0.0.0", seconds=None, renew_after=None, rebind_after=None)
        ciaddr = message.ciaddr if kind is Kind.ACK else _NOWHERE
        return self._edited(Reply(kind, message.xid, message.client_mac, ciaddr, self.address, grant))

    def _edited(self, reply: Reply) -> Reply:
        for edit in self._edits:
            reply = edit(reply)
        return reply
