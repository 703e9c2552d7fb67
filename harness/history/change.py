"""Where a series changed: by ranks, so that one bad night is no change, and a slow drift is one."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# What chance alone may show; Pettitt's p is an upper bound, and most of all so for short series.
_P = 0.005
_LEAST = 4


@dataclass(frozen=True)
class ChangePoint:
    """The series changed at `index`, the first value behind the change; medians of the stretches before and behind it."""

    index: int
    before: float
    after: float


def change_points(series: Sequence[float]) -> list[ChangePoint]:
    """Finds the changes, in order: the most certain one by Pettitt's test (1979), then those on either side of it.

    A drift is found as the step that fits it best. Fewer than eight values show nothing.
    """
    cuts = sorted(_cuts(series, 0))
    edges = [0, *cuts, len(series)]
    return [
        ChangePoint(cut, median(series[edges[number] : cut]), median(series[cut : edges[number + 2]]))
        for number, cut in enumerate(cuts)
    ]


def _cuts(series: Sequence[float], offset: int) -> list[int]:
    if len(series) < 2 * _LEAST:
        return []
    pooled = sorted(series)
    # Twice the middle rank, less twice the mean rank: its sum up to a place is Pettitt's U there.
    scores = [bisect_left(pooled, value) + bisect_right(pooled, value) - len(series) for value in series]
    sums = [sum(scores[:place]) for place in range(_LEAST, len(series) - _LEAST + 1)]
    most = max(sums, key=abs)
    number = len(series)
    if 2 * math.exp(-6 * most**2 / (number**3 + number**2)) > _P:
        # A step up and one down again hide each other: each is seen where the other is not.
        third = number // 3
        early, late = _cuts(series[: number - third], offset), _cuts(series[third:], offset + third)
        return [*early, *(cut for cut in late if all(abs(cut - other) >= _LEAST for other in early))]
    cut = sums.index(most) + _LEAST
    return [*_cuts(series[:cut], offset), offset + cut, *_cuts(series[cut:], offset + cut)]
