"""The test's own DNS server, which replaces the one of QEMU's network (RFC 1035)."""

from collections.abc import Mapping
from enum import IntEnum
from ipaddress import IPv4Address

from harness.errors import InputError
from harness.wire import frame
from harness.wire.cable import Say
from harness.wire.station import Neighbour

_PORT = 53
_MOST_KEPT = 10_000


class Refusal(IntEnum):
    """Why a name has no answer (RFC 1035, 4.1.1)."""

    FORMAT_ERROR = 1
    SERVER_FAILURE = 2
    NO_SUCH_NAME = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


class NameServer(Neighbour):
    """Answers questions for addresses, whichever server they are sent to; `asked` has the names as they were received.

    `names` gives each name's IPv4 address, or why it has none; any other name does not exist.
    """

    def __init__(self, names: Mapping[str, str | Refusal], address: IPv4Address | str = "10.0.2.3") -> None:
        super().__init__(address)
        self._names = {name.rstrip(".").lower(): _checked(answer) for name, answer in names.items()}
        self.asked: list[str] = []

    def serve(self, content: bytes, say: Say) -> bool:
        """See `Neighbour`."""
        carrier = frame.datagram(content)
        if carrier is None or carrier.destination_port != _PORT:
            return False
        question = self._packets.question_in(carrier.payload)
        if question:
            self.asked = [*self.asked, question.name][-_MOST_KEPT:]
            answer = self._names.get(question.name.lower(), Refusal.NO_SUCH_NAME)
            say(self._packets.dns_answer(content, question, answer), 0)
        return True


def _checked(answer: str | Refusal) -> IPv4Address | Refusal:
    try:
        return answer if isinstance(answer, Refusal) else IPv4Address(answer)
    except ValueError as wrong:
        raise InputError(f"A DNS server cannot answer this: {wrong}.") from wrong
