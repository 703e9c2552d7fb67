"""What a qualification runs, in the order in which it matters, as far as the time allows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.qualification.matrix import TIERS, Matrix

# On the reference host, where nothing is known of an earlier run: the whole suite, that of the least tier, a scenario's file, a
# canary.
_WHOLE, _LEAST, _FILE, _CANARY = 580.0, 100.0, 90.0, 30.0


@dataclass(frozen=True)
class Step:
    """A run of scenarios on one machine or, where `canaries` has names, of canaries. `seconds` is what it may take."""

    name: str
    options: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    canaries: Sequence[str] = ()
    seconds: float = 0.0

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        return re.sub(r"[^\w.-]+", "-", self.name)


def plan(matrix: Matrix, tier: str, known: Mapping[str, float]) -> list[Step]:
    """The steps of a tier. `known` has the seconds that earlier runs took, by the words of their machine's options.

    The first machine comes first, then the canaries: without them no answer is worth anything.
    """
    taken = TIERS[: TIERS.index(tier) + 1]
    steps: list[Step] = []
    for cell in matrix.cells:
        if cell.tier not in taken:
            continue
        guess = _FILE * len(cell.scenarios) or (_LEAST if tier == TIERS[0] else _WHOLE)
        options = [*cell.options, *([] if cell.scenarios else [f"--tier={tier}"])]
        seconds = known.get(_words(cell.options), guess)
        times = cell.repeats.get(tier, 1)
        names = [cell.name] if times == 1 else [f"{cell.name} {number}" for number in range(1, times + 1)]
        steps += [Step(name, options, cell.scenarios, (), seconds) for name in names]
    to_catch = matrix.canaries.get(tier, ())
    canaries = [Step("canaries", canaries=to_catch, seconds=_CANARY * len(to_catch))] if to_catch else []
    return [*steps[:1], *canaries, *steps[1:]]


def _words(options: Sequence[str]) -> str:
    """As `gathering.cell_of` has a machine."""
    named = [option.removeprefix("--").split("=") for option in options]
    chosen = [" ".join(each) for each in named if len(each) == 2]
    return ", ".join([*chosen, *(["start cold"] if ["cold"] in named else [])])
