"""What a user sees of a qualification: a line that is kept up to date, or without a terminal, line after line."""

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from harness.escape import shown
from harness.journal.entry import Ended

_WORDS = {
    "failed": "FAILED",
    "error": "COULD NOT TELL",
    "known": "known not to hold",
    "elsewhere": "not promised of this image",
}


class Watch:
    """Follows the steps of a plan."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._status: Status | None = self._console.status("") if self._console.is_terminal else None
        self._step, self._left = "", 0.0
        self._began, self._step_began = time.monotonic(), 0.0
        self._told = 0

    def begin(self, step: str, number: int, count: int, left: float) -> None:
        """Announces a step; `left` is how many seconds it and the later ones may take."""
        self._step, self._left = f"{number}/{count} {step}", left
        self._step_began, self._told = time.monotonic(), 0
        self.say(f"{self._step}: begins, about {_minutes(left)} left")
        if self._status:
            self._status.start()

    def see(self, running: Mapping[str, float], ended: Sequence[Ended], planned: int, stages: Mapping[str, str]) -> None:
        """Shows the progress of a step: the running tests with their starts, in seconds of the epoch, and those that ended.

        `stages` has how far the nodes of a test are, by its name.
        """
        for entry in ended[self._told :]:
            seconds = sum(entry.seconds.values())
            why = f": {entry.sentence}" if entry.sentence else ""
            self.say(f"{self._step}: {entry.test} {_WORDS.get(entry.verdict, entry.verdict)} in {seconds:.1f} s{why}")
        self._told = len(ended)
        if self._status:
            names = ", ".join(_running(test.rpartition("::")[2], at, stages) for test, at in running.items())
            left = max(0.0, self._left - (time.monotonic() - self._step_began))
            counted = f"{len(ended)} of {planned} tests; {names or 'no test runs'}"
            times = f"{_minutes(time.monotonic() - self._began)} elapsed, about {_minutes(left)} left"
            self._status.update(escape(shown(f"{self._step}: {counted}; {times}")))

    def say(self, words: str) -> None:
        """Prints a line that stays."""
        self._console.print(escape(shown(words)))

    def close(self) -> None:
        """Removes the line that was kept up to date."""
        if self._status:
            self._status.stop()


def _running(test: str, began: float, stages: Mapping[str, str]) -> str:
    stage = f" ({stages[test]})" if test in stages else ""
    return f"{test} {time.time() - began:.0f} s{stage}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
