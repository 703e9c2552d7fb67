"""TCP that a node sends to anybody, led to one address of its network."""

from ipaddress import IPv4Address

from harness.wire import frame as read
from harness.wire.cable import Onward
from harness.wire.fault import Fault
from harness.wire.frame import Frame, Way
from harness.wire.match import tcp

# A guest has no more ports of its own than this.
_MOST_FLOWS = 1 << 16


class Redirect(Fault):
    """Connections to one port of anybody's go to `to` instead, and answers come as if from whom they were meant for.

    For addresses beyond the guest's own link: on that one it asks who has them, and nobody does.
    """

    def __init__(self, port: int, to: tuple[str, int]) -> None:
        # As for a neighbour: whoever asks for none does not wait for scapy.
        from harness.wire import packets

        super().__init__(tcp(port, to[1]))
        self._packets = packets
        self._port, self._to = port, (IPv4Address(to[0]), to[1])
        self._meant: dict[int, IPv4Address] = {}

    def do(self, frame: Frame, onward: Onward) -> None:
        """Writes one address for another."""
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
