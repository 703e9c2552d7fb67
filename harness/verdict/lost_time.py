"""The time that this host took from a node: in which others had QEMU's CPUs, or the harness itself stood still."""

import time
from collections.abc import Callable
from dataclasses import dataclass

# A busy host extends a wait to at most so many times its length.
_LONGEST_STRETCH = 3.0
_APART = 0.1


@dataclass(frozen=True)
class Moment:
    """A time, as `time.monotonic`, and the seconds that had been lost by then."""

    at: float
    lost: float = 0.0


class LostTime:
    """Returns the seconds lost so far whenever it is called; `count` counts them, but no longer once QEMU has ended."""

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
        """The seconds lost by a time, as far as was known then."""
        return next((known.lost for known in reversed(self._known) if known.at <= at), 0.0)


def stretch(within: float, lost: float) -> float:
    """The seconds by which a wait of `within` seconds is extended if so many were lost."""
    return min(lost, (_LONGEST_STRETCH - 1) * within)
