"""The one wait: it listens to everything at once and ends with exactly one outcome, the first that is true."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.verdict.feed import ConsoleText, Entry, Feed, Happening
from harness.verdict.goal import may_meet
from harness.verdict.lost_time import Moment, stretch
from harness.verdict.outcome import Met, Outcome, Stalled, TooLate
from harness.verdict.situation import Awaited, Needed, Situation, tells
from harness.verdict.trouble import Trouble

# How often a condition is asked for, and the host's load is looked at.
_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Patience:
    """How long to wait: `within` seconds in all, and at most `silence` seconds without hearing anything."""

    within: float
    silence: float


class Judge:
    """What waits for one node. It hears each happening once: a wait costs what has happened since the one before.

    `lost` says for how many seconds the host has kept QEMU from running so far; a wait lasts as much longer. For
    `earlier_boots`, see `Situation`.
    """

    def __init__(self, feed: Feed, lost: Callable[[], float] = lambda: 0.0, earlier_boots: int = 0) -> None:
        self._feed, self._lost = feed, lost
        self._situation = Situation(earlier_boots)
        self._heard = 0
        self._hearing = threading.Lock()

    def wait(
        self,
        goal: Callable[[Happening], bool],
        patience: Patience,
        *,
        since: int = 0,
        needed: Sequence[Needed] = (),
        condition: Callable[[], bool] = lambda: False,
        begun: Moment | None = None,
    ) -> Outcome:
        """Waits until a happening at or behind position `since` meets the goal, the condition holds, or neither can any more.

        `needed` is that on which that depends. What happened before and was recovered from ends nothing. The time runs from
        when it has `begun`, by default now: what the host took since then is given back, whichever wait it was taken from.
        """
        clock = Clock(patience, self._lost, begun)
        tested = since
        while True:
            outcome, tested = self._hear(goal, tested, needed, clock)
            if outcome is not None:
                return outcome
            if condition():
                return Met()
            if clock.over() is not None:
                # A condition may have taken long: what came meanwhile counts.
                outcome, tested = self._hear(goal, tested, needed, clock)
                if (ended := outcome or clock.over()) is not None:
                    return ended
            self._feed.wait_beyond(tested, min(clock.left(), _LOOK_SECONDS))

    def verdict(self, needed: Sequence[Needed] = ()) -> Outcome | None:
        """Why nothing more can be hoped for by now; None while something can."""
        return self._hear(lambda _: False, self._heard, needed, None)[0]

    def skip(self, position: int) -> None:
        """Hears nothing of what was before a position."""
        self._heard = position

    def unlisted(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """See `Situation.unlisted`."""
        return self._situation.unlisted(pods)

    def unheard(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """See `Situation.unheard`."""
        return self._situation.unheard(pods)

    def unbegun(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """See `Situation.unbegun`."""
        return self._situation.unbegun(pods)

    def nearest(self, pods: Sequence[Awaited]) -> list[str]:
        """See `Situation.nearest`."""
        return self._situation.nearest(pods)

    def unended(self, pods: Sequence[Awaited]) -> list[tuple[str, tuple[str, str, str]]]:
        """See `Situation.unended`."""
        return self._situation.unended(pods)

    def failed(self, pods: Sequence[Awaited]) -> list[tuple[str, tuple[str, str, str]]]:
        """See `Situation.failed`."""
        return self._situation.failed(pods)

    def troubles(self) -> list[Trouble]:
        """See `Situation.troubles`."""
        return self._situation.troubles()

    def awaits(self) -> str:
        """See `Situation.awaits`."""
        return self._situation.awaits()

    def _hear(
        self, goal: Callable[[Happening], bool], tested: int, needed: Sequence[Needed], clock: "Clock | None"
    ) -> tuple[Outcome | None, int]:
        """Hears what is new, and tests a goal by all from position `tested` on; returns the position behind what was tested.

        The outcome is the first that this makes, or one that was there and stays. What another question heard, as one that
        was asked in the middle of a wait, is new to the wait all the same.
        """
        with self._hearing:
            outcome: Outcome | None = None
            news = self._heard
            entries, self._heard = self._feed.entries(min(tested, news))
            for position, entry in entries:
                if clock:
                    clock.heard(entry.at)
                # What was heard before can only meet this goal.
                words_tell = tells if position >= news else _never
                if _is_idle(entry, words_tell, goal if outcome is None else None):
                    continue
                for number, happening in enumerate(_happenings_of(entry), start=position):
                    if outcome is None and number >= tested and goal(happening):
                        outcome = Met(happening, number + 1)
                    if position >= news and self._situation.hear(happening) and outcome is None:
                        outcome = self._situation.verdict(needed)
            return outcome or self._situation.verdict(needed), max(tested, self._heard)


def _happenings_of(entry: Entry) -> Sequence[Happening]:
    return entry.lines() if isinstance(entry, ConsoleText) else [entry]


def _never(_: str) -> bool:
    return False


def _is_idle(entry: Entry, words_tell: Callable[[str], bool], goal: Callable[[Happening], bool] | None) -> bool:
    """Whether none of many lines means anything to the wait; searched as one text, which is much faster than by line."""
    if not isinstance(entry, ConsoleText) or words_tell(entry.text):
        return False
    return goal is None or not may_meet(goal, entry.text)


class Clock:
    """The time of one wait, without what the host took from QEMU; it runs from when that has `begun`, by default now."""

    def __init__(self, patience: Patience, lost: Callable[[], float], begun: Moment | None = None) -> None:
        self._patience, self._lost = patience, lost
        self._last = Moment(time.monotonic(), lost())
        self._begun = begun or self._last

    @classmethod
    def of(cls, within: float, lost: Callable[[], float]) -> "Clock":
        """One that is over after so many seconds, whatever is heard."""
        return cls(Patience(within, math.inf), lost)

    @property
    def within(self) -> float:
        """The seconds that there are, without those that are lost."""
        return self._patience.within

    def heard(self, at: float) -> None:
        """Something was heard from the node."""
        if at > self._last.at:
            self._last = Moment(at, self._lost())

    def over(self) -> Outcome | None:
        """That the time is over, or nothing was heard for too long."""
        now = time.monotonic()
        passed, silent = now - self._begun.at, now - self._last.at
        if passed < self._patience.within and silent < self._patience.silence:
            # What was lost could only put it off, and takes time to find out.
            return None
        lost, lost_in_silence = self._stretches()
        if passed - lost >= self._patience.within:
            return TooLate(self._patience.within, lost)
        if silent - lost_in_silence >= self._patience.silence:
            return Stalled(silent - lost_in_silence, lost_in_silence)
        return None

    def left(self) -> float:
        """Seconds until it is over, as far as is known now."""
        now = time.monotonic()
        lost, lost_in_silence = self._stretches()
        within, silence = self._patience.within + lost, self._patience.silence + lost_in_silence
        return max(0.0, min(self._begun.at + within, self._last.at + silence) - now)

    def _stretches(self) -> tuple[float, float]:
        now, within = self._lost(), self._patience.within
        return stretch(within, now - self._begun.lost), stretch(within, now - self._last.lost)


def wait(
    feed: Feed, goal: Callable[[Happening], bool], patience: Patience, *, start: int = 0, needed: Sequence[Needed] = ()
) -> Outcome:
    """Waits by a judge of its own, that has heard nothing before position `start`."""
    judge = Judge(feed)
    judge.skip(start)
    return judge.wait(goal, patience, since=start, needed=needed)
