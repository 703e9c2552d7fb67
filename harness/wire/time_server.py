"""The test's own NTP server, which replaces all others (RFC 5905)."""

import time
from ipaddress import IPv4Address

from harness.wire import frame
from harness.wire.cable import Say
from harness.wire.station import Neighbour

_PORT = 123


class TimeServer(Neighbour):
    """Answers requests to any server with this host's time plus `ahead` seconds; `asked` counts the requests."""

    def __init__(self, ahead: float = 0.0, address: IPv4Address | str = "10.0.2.123") -> None:
        super().__init__(address)
        self._ahead = ahead
        self.asked = 0

    def serve(self, content: bytes, say: Say) -> bool:
        """See `Neighbour`."""
        carrier = frame.datagram(content)
        if carrier is None or carrier.destination_port != _PORT:
            return False
        answer = self._packets.ntp_answer(content, carrier.payload, time.time() + self._ahead)
        if answer:
            self.asked += 1
            say(answer, 0)
        return True
