"""The clock of a node that goes on from when it was frozen: put on to this host's, by how far it is behind."""

import time
from collections.abc import Callable

from harness.errors import HarnessError
from harness.serial.result import Result

_TRIES, _OFF_SECONDS = 5, 0.1

Run = Callable[[str], Result]


def set_to_hosts(run: Run) -> None:
    """Sets the clock with the console pod's program `clock` and reads it back; HarnessError if it stays 0.1 s off."""
    ahead = _seconds_ahead(run, "clock")
    for _ in range(_TRIES):
        ahead = _seconds_ahead(run, f"clock {-ahead * 1e9:.0f}")
        if abs(ahead) < _OFF_SECONDS:
            return
    raise HarnessError(f"The node's clock cannot be set: it is {ahead:.1f} s ahead of this host's after {_TRIES} tries.")


def _seconds_ahead(run: Run, command: str) -> float:
    """By how much the clock that a command prints is ahead of this host's in the middle of the question."""
    before = time.time()
    said = run(command)
    if said.status:
        raise HarnessError(f"The node's clock cannot be set: {said.text.strip()}")
    return int(said.text) / 1e9 - (before + time.time()) / 2
