"""What a wait is for: functions of a happening, which also know which console text cannot meet them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.verdict.feed import ConsoleLine, Happening

Goal = Callable[[Happening], bool]
# In a pattern that could match across lines, or differently at the ends of a line and of a text: it is tried line by line.
_BY_LINE = re.compile(r"\\[AZDW]|\[\^|\(\?(?!:|P<)|\\n|\n")


def may_meet(goal: Goal, text: str) -> bool:
    """Whether a line of a text may meet a goal; True for a goal that does not say."""
    says: Callable[[str], bool] | None = getattr(goal, "may_meet", None)
    return says is None or says(text)


class LineMatching:
    """Met by a line on the serial port that contains a pattern."""

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
    """Met by a happening that is not a line on the serial port."""

    met: Goal

    def __call__(self, happening: Happening) -> bool:
        return not isinstance(happening, ConsoleLine) and self.met(happening)

    def may_meet(self, text: str) -> bool:
        """See `may_meet`."""
        del text
        return False


class AnyOf:
    """Met by what meets any of several goals."""

    def __init__(self, goals: Iterable[Goal]) -> None:
        self._goals = list(goals)

    def __call__(self, happening: Happening) -> bool:
        return any(goal(happening) for goal in self._goals)

    def may_meet(self, text: str) -> bool:
        """See `may_meet`."""
        return any(may_meet(goal, text) for goal in self._goals)
