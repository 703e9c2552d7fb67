"""Redirects a node's TCP connections, to whatever address, to one address of its network."""

from ipaddress import IPv4Address

from harness.wire import frame as read
from harness.wire.cable import Onward
from harness.wire.fault import Fault
from harness.wire.frame import Frame, Way
from harness.wire.match import tcp

# A guest has no more ports of its own than this.
_MOST_FLOWS = 1 << 16


class Redirect(Fault):
    """Connections to one port of any address go to `to` instead; the answers seem to come from the address that was meant.

    This works for addresses beyond the guest's own link; for those on the link, nobody would answer the guest's ARP request.
    """

    def __init__(self, port: int, to: tuple[str, int]) -> None:
        # Imported here, as for a neighbour, because importing scapy takes long.
        from harness.wire import packets

        super().__init__(tcp(port, to[1]))
        self._packets = packets
        self._port, self._to = port, (IPv4Address(to[0]), to[1])
        self._meant: dict[int, IPv4Address] = {}

    def do(self, frame: Frame, onward: Onward) -> None:
        """Replaces one address by the other."""
        segment = read.segment(frame.content)
        assert segment is not None  # that is what matches
        content = frame.content
        if frame.way is Way.SENT and segment.destination_port == self._port and segment.destination != self._to[0]:
            self._meant[segment.source_port] = segment.destination
            if len(self._meant) > _MOST_FLOWS:
                del self._meant[next(iter(self._meant))]
            content = self._packets.readdressed(content, destination=self._to)
        elif frame.way is Way.RECEIVED and (segment.source, segment.source_port) == self._to:
            meant = self._meant.get(segment.destination_port)
            content = self._packets.readdressed(content, source=(meant, self._port)) if meant else content
        onward(Frame(frame.way, content), 0)
