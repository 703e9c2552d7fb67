"""The path beyond a node's own link, judged by its TCP: one that loses only long packets carries all others."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.wire import frame
from harness.wire.capture import frames
from harness.wire.frame import Segment

_ACK = 16
# Losing a segment once or twice may be an accident.
_OFTEN = 3
# Every host accepts packets of this size (RFC 791), so shorter ones are lost for another reason.
_LONG = 576
_NUMBERS = 1 << 32


@dataclass
class _Sent:
    """An unacknowledged segment: how often it was sent, and whether the other side was heard since."""

    size: int
    end: int
    often: int = 1
    is_heard: bool = False


def loss_of_long(capture: Path) -> str:
    """In words, that long packets are sent in vain while the other side is heard; empty if that is not so."""
    segments = filter(None, map(frame.segment, frames(capture)))
    vain = [each for each in _unacknowledged(segments) if each.often >= _OFTEN and each.is_heard]
    if not vain or min(each.size for each in vain) <= _LONG:
        return ""
    most = max(vain, key=lambda each: each.often)
    return f"long packets are lost: one of {most.size} bytes was sent {most.often} times in vain, and others came through"


def _unacknowledged(segments: Iterable[Segment]) -> Iterator[_Sent]:
    connections: dict[tuple[object, ...], dict[int, _Sent]] = {}
    for each in segments:
        ours = each.source, each.source_port, each.destination, each.destination_port
        theirs = connections.get((*ours[2:], *ours[:2]), {})
        if each.flags & _ACK:
            for number, sent in list(theirs.items()):
                sent.is_heard = True
                if (each.acknowledged - sent.end) % _NUMBERS < _NUMBERS // 2:
                    del theirs[number]
        if each.payload:
            mine = connections.setdefault(ours, {})
            if each.sequence in mine:
                mine[each.sequence].often += 1
            else:
                mine[each.sequence] = _Sent(each.size, each.sequence + len(each.payload))
    for connection in connections.values():
        yield from connection.values()
