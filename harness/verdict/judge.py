"""The one wait: it listens to everything at once and ends with exactly one outcome, the first that is true."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.verdict.feed import ConsoleText, Entry, Feed, Happening
from harness.verdict.goal import may_meet
from harness.verdict.outcome import Met, Outcome, Stalled, TooLate
from harness.verdict.situation import Awaited, Situation, tells
from harness.verdict.trouble import Trouble

# How often a condition is asked for, and the host's load is looked at.
_LOOK_SECONDS = 0.3
# A host that is too busy stretches a wait to so many times its length, and no further.
_LONGEST_STRETCH = 3.0


@dataclass(frozen=True)
class Patience:
    """How long to wait: `within` seconds in all, and at most `silence` seconds without hearing anything."""

    within: float
    silence: float


class Judge:
    """What waits for one node. It hears each happening once: a wait costs what has happened since the one before.

    `lost` says for how many seconds the host has kept QEMU from running so far; a wait lasts as much longer.
    """

    def __init__(self, feed: Feed, lost: Callable[[], float] = lambda: 0.0) -> None:
        self._feed, self._lost = feed, lost
        self._situation = Situation()
        self._heard = 0
        self._hearing = threading.Lock()

    def wait(
        self,
        goal: Callable[[Happening], bool],
        patience: Patience,
        *,
        since: int = 0,
        pods: Sequence[Awaited] = (),
        condition: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Waits until a happening at or behind position `since` meets the goal, the condition holds, or neither can any more.

        `pods` are those on which that depends. What happened before and was recovered from ends nothing.
        """
        clock = _Clock(patience, self._lost)
        if since < self._heard and (met := self._met_before(goal, since)):
            return met
        while True:
            if (outcome := self._hear(goal, since, pods, clock)) is not None:
                return outcome
            if condition():
                return Met()
            if (over := clock.over()) is not None:
                return over
            self._feed.wait_beyond(self._heard, min(clock.left(), _LOOK_SECONDS))

    def verdict(self, pods: Sequence[Awaited] = ()) -> Outcome | None:
        """Why nothing more can be hoped for by now; None while something can."""
        return self._hear(lambda _: False, 0, pods, None)

    def skip(self, position: int) -> None:
        """Hears nothing of what was before a position."""
        self._heard = position

    def unlisted(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """See `Situation.unlisted`."""
        return self._situation.unlisted(pods)

    def unheard(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """See `Situation.unheard`."""
        return self._situation.unheard(pods)

    def nearest(self, pods: Sequence[Awaited]) -> list[str]:
        """See `Situation.nearest`."""
        return self._situation.nearest(pods)

    def troubles(self) -> list[Trouble]:
        """See `Situation.troubles`."""
        return self._situation.troubles()

    def awaits(self) -> str:
        """See `Situation.awaits`."""
        return self._situation.awaits()

    def _hear(
        self, goal: Callable[[Happening], bool], since: int, pods: Sequence[Awaited], clock: "_Clock | None"
    ) -> Outcome | None:
        """Hears what is new, all of it, and returns the first outcome that it makes, or that was there and stays."""
        with self._hearing:
            outcome: Outcome | None = None
            entries, self._heard = self._feed.entries(self._heard)
            for position, entry in entries:
                if clock:
                    clock.heard(entry.at)
                if _is_idle(entry, goal if outcome is None else None):
                    continue
                for number, happening in enumerate(_happenings_of(entry), start=position):
                    if outcome is None and number >= since and goal(happening):
                        outcome = Met(happening, number + 1)
                    if self._situation.hear(happening) and outcome is None:
                        outcome = self._situation.verdict(pods)
            return outcome or self._situation.verdict(pods)

    def _met_before(self, goal: Callable[[Happening], bool], since: int) -> Met | None:
        for position, entry in self._feed.entries(since)[0]:
            if isinstance(entry, ConsoleText) and not may_meet(goal, entry.text):
                continue
            for number, happening in enumerate(_happenings_of(entry), start=position):
                if goal(happening):
                    return Met(happening, number + 1)
        return None


def _happenings_of(entry: Entry) -> Sequence[Happening]:
    return entry.lines() if isinstance(entry, ConsoleText) else [entry]


def _is_idle(entry: Entry, goal: Callable[[Happening], bool] | None) -> bool:
    """Whether none of many lines means anything to the wait; searched as one text, which is much faster than by line."""
    if not isinstance(entry, ConsoleText) or tells(entry.text):
        return False
    return goal is None or not may_meet(goal, entry.text)


class _Clock:
    """The time of one wait, without what the host took from QEMU."""

    def __init__(self, patience: Patience, lost: Callable[[], float]) -> None:
        self._patience, self._lost = patience, lost
        self._began = self._last = time.monotonic()
        self._lost_before = self._lost_at_last = lost()

    def heard(self, at: float) -> None:
        """Something was heard from the node."""
        if at > self._last:
            self._last, self._lost_at_last = at, self._lost()

    def over(self) -> Outcome | None:
        """That the time is over, or nothing was heard for too long."""
        now = time.monotonic()
        lost, lost_in_silence = self._stretch()
        if now - self._began - lost >= self._patience.within:
            return TooLate(self._patience.within, lost)
        if now - self._last - lost_in_silence >= self._patience.silence:
            return Stalled(now - self._last - lost_in_silence, lost_in_silence)
        return None

    def left(self) -> float:
        """Seconds until it is over, as far as is known now."""
        now = time.monotonic()
        lost, lost_in_silence = self._stretch()
        return max(
            0.0,
            min(
                self._began + lost + self._patience.within - now,
                self._last + lost_in_silence + self._patience.silence - now,
            ),
        )

    def _stretch(self) -> tuple[float, float]:
        now = self._lost()
        most = (_LONGEST_STRETCH - 1) * self._patience.within
        return min(now - self._lost_before, most), min(now - self._lost_at_last, most)


def wait(
    feed: Feed, goal: Callable[[Happening], bool], patience: Patience, *, start: int = 0, pods: Sequence[Awaited] = ()
) -> Outcome:
    """Waits by a judge of its own, that has heard nothing before position `start`."""
    judge = Judge(feed)
    judge.skip(start)
    return judge.wait(goal, patience, since=start, pods=pods)
