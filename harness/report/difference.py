"""What differs between a report and an earlier one."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.report import statistics
from harness.report.earlier import Earlier, Spread

# A difference that is nobody's concern, whatever its p.
_SMALLEST_CHANGE = 0.02
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A quantity in this report and in the one before; `p` is None where there is no sample to test, or too small a one."""

    group: str
    name: str
    unit: str
    before: float
    after: float
    shift: float
    p: float | None
    significant: bool

    @property
    def words(self) -> str:
        """As `kernel +1.9 s, p = 0.003`."""
        said = f"{self.name} {self.shift:+.3g} {self.unit}".rstrip()
        return said if self.p is None else f"{said}, p = {self.p:.2g}"


def differences(spreads: Sequence[Spread], figures: Sequence[tuple[str, str, float]], earlier: Earlier) -> list[Difference]:
    """Everything that both have, what changed first."""
    before = earlier.seconds
    both = [(each, before[each.group, each.stage]) for each in spreads if before.get((each.group, each.stage))]
    changes = [statistics.compare(old, new.seconds) for new, old in both]
    ps = statistics.adjusted(changes, _SIGNIFICANT)
    found = [
        Difference(
            new.group,
            new.stage,
            "s",
            median(old),
            new.median,
            round(change.shift, 3),
            p,
            p is not None and p < _SIGNIFICANT and abs(change.shift) > _SMALLEST_CHANGE * max(median(old), 1.0),
        )
        for (new, old), change, p in zip(both, changes, ps, strict=True)
    ]
    known = {name: value for name, _, value in earlier.figures}
    found += [
        Difference("", name, unit, known[name], value, value - known[name], None, _is_another(unit, known[name], value))
        for name, unit, value in figures
        if name in known
    ]
    return sorted(found, key=lambda each: (not each.significant, -abs(each.shift) if each.unit == "s" else 0))


def _is_another(unit: str, before: float, after: float) -> bool:
    """Whether a figure changed: what is counted, which has no unit, by any difference, what is measured by one of note."""
    return abs(after - before) > (_SMALLEST_CHANGE * abs(before) if unit else 0.0)
