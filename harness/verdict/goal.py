"""What a wait is for, as functions of a happening that also know which text on the console is none of theirs."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.verdict.feed import ConsoleLine, Happening

Goal = Callable[[Happening], bool]
# What matches across lines, or at the ends of a line as of a text: such a pattern is tried on each line.
_BY_LINE = re.compile(r"\\[AZDW]|\[\^|\(\?(?!:|P<)|\\n|\n")


def may_meet(goal: Goal, text: str) -> bool:
    """Whether one of the lines of a text may meet a goal; a goal that does not say so is asked of each."""
    says: Callable[[str], bool] | None = getattr(goal, "may_meet", None)
    return says is None or says(text)


class LineMatching:
    """Met by a line on the serial port in which a pattern is found."""

    def __init__(self, pattern: str) -> None:
        self._of_line = re.compile(pattern)
        self._of_text = None if _BY_LINE.search(pattern) else re.compile(pattern, re.MULTILINE)

    def __call__(self, happening: Happening) -> bool:
        return isinstance(happening, ConsoleLine) and bool(self._of_line.search(happening.text))

    def may_meet(self, text: str) -> bool:
        """See `may_meet`."""
        return self._of_text is None or bool(self._of_text.search(text))


@dataclass(frozen=True)
class Unspoken:
    """Met by a happening that is no line on the serial port."""

    met: Goal

    def __call__(self, happening: Happening) -> bool:
        return not isinstance(happening, ConsoleLine) and self.met(happening)

    def may_meet(self, text: str) -> bool:
        """See `may_meet`."""
        del text
        return False


class AnyOf:
    """Met by what meets one of several goals."""

    def __init__(self, goals: Iterable[Goal]) -> None:
        self._goals = list(goals)

    def __call__(self, happening: Happening) -> bool:
        return any(goal(happening) for goal in self._goals)

    def may_meet(self, text: str) -> bool:
        """See `may_meet`."""
        return any(may_meet(goal, text) for goal in self._goals)
