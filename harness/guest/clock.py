"""A node's clock: compared with this host's, and set to it after a freeze."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.serial.result import Result

_TRIES, _OFF_SECONDS = 5, 0.1
# The drift that is allowed between the two clocks while they are compared.
_DRIFT_SECONDS = 0.01

Run = Callable[[str], Result]


@dataclass(frozen=True)
class _Ahead:
    """By how many seconds a clock is ahead, at least and at most: the longer its answer took, the wider the range."""

    least: float
    most: float

    @property
    def middle(self) -> float:
        return (self.least + self.most) / 2

    def moved(self, by: float) -> "_Ahead":
        return _Ahead(self.least + by, self.most + by)

    def narrowed(self, by: "_Ahead") -> "_Ahead":
        """The range that both allow; the later one if they contradict each other."""
        least, most = max(self.least, by.least), min(self.most, by.most)
        return _Ahead(least, most) if least <= most + _DRIFT_SECONDS else by


def hosts_offset() -> float:
    """This host's clock, in seconds of the epoch, less `time.monotonic`: it changes only if that clock is set."""
    return time.time() - time.monotonic()


def ahead(run: Run) -> float:
    """The seconds by which a node's clock is ahead of this host's, according to the console pod's program `clock`."""
    return _ahead(run, "clock").middle


def set_to_hosts(run: Run) -> None:
    """Sets the clock with the console pod's program `clock` and reads it back; raises HarnessError if it stays 0.1 s off.

    On a busy host a single answer tells little, so what all answers allow together is used.
    """
    known = _ahead(run, "clock")
    for _ in range(_TRIES):
        by = -known.middle
        known = known.moved(by).narrowed(_ahead(run, f"clock {by * 1e9:.0f}"))
        if abs(known.middle) < _OFF_SECONDS:
            return
    raise HarnessError(f"The node's clock cannot be set: it is {known.middle:.1f} s ahead of this host's after {_TRIES} tries.")


def _ahead(run: Run, command: str) -> _Ahead:
    """How far a clock is ahead that a command prints, and has read at some time between the question and the answer."""
    before = time.time()
    said = run(command)
    if said.status:
        raise HarnessError(f"The node's clock cannot be read or set: {said.text.strip()}")
    told = int(said.text) / 1e9
    return _Ahead(told - time.time(), told - before)
