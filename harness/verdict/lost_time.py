"""The time that this host took from a node: for how many seconds QEMU could have run, and others had its CPUs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# A host that is too busy stretches a wait to so many times its length, and no further.
_LONGEST_STRETCH = 3.0
_APART = 0.1


@dataclass(frozen=True)
class Moment:
    """When something began, as `time.monotonic`, and how many seconds had been lost by then."""

    at: float
    lost: float = 0.0


class LostTime:
    """The seconds lost so far, each time it is called; `count` counts them, and does so no more once QEMU has ended."""

    def __init__(self, count: Callable[[], float]) -> None:
        self._count, self._lost = count, 0.0
        self._known = [Moment(time.monotonic())]

    def __call__(self) -> float:
        """The seconds lost so far."""
        self._lost = max(self._lost, self._count())
        at = time.monotonic()
        if at - self._known[-1].at >= _APART:
            self._known.append(Moment(at, self._lost))
        return self._lost

    def by(self, at: float) -> float:
        """The seconds lost by a moment, as far as was known then."""
        return next((known.lost for known in reversed(self._known) if known.at <= at), 0.0)


def stretch(within: float, lost: float) -> float:
    """By how much a wait of `within` seconds may last longer where so many were lost."""
    return min(lost, (_LONGEST_STRETCH - 1) * within)
