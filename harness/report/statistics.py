"""Whether two samples of times differ, and by how much: a rank test, since nothing is known of how boots' times spread."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# Above, the normal approximation is as good, and the exact distribution takes longer.
_EXACT = 400


@dataclass(frozen=True)
class Change:
    """By how much a quantity changed (the median of all differences, Hodges and Lehmann 1963), and the test's p.

    `least` is the smallest p that samples of these sizes can have: two boots beside two show nothing, however far apart.
    """

    shift: float
    p: float
    least: float


def compare(before: Sequence[float], after: Sequence[float]) -> Change:
    """Compares two samples, neither of them empty; `p` is the two-sided one of Mann and Whitney (1947), ties included."""
    shift = median(new - old for new in after for old in before)
    return Change(shift, rank_test(before, after), 2 / math.comb(len(before) + len(after), len(before)))


def rank_test(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sided p of the rank-sum test: exact over all permutations of the ranks that occur, normal for large samples."""
    # The fewer are looked at: sums of two ranks of many are soon counted, those of many are not.
    one, other = sorted((one, other), key=len)
    pooled = sorted([*one, *other])
    # Twice the middle rank of equal values: an integer.
    ranks = [bisect_left(pooled, value) + bisect_right(pooled, value) + 1 for value in (*one, *other)]
    observed, expected = sum(ranks[: len(one)]), len(one) * (len(pooled) + 1)
    if len(one) * len(other) > _EXACT:
        return _normal(ranks, len(one), abs(observed - expected))
    sums = _sums(ranks, len(one))
    extreme = sum(ways for total, ways in sums.items() if abs(total - expected) >= abs(observed - expected))
    return extreme / sum(sums.values())


def adjusted(changes: Sequence[Change], significant: float) -> list[float | None]:
    """The p of each where all are looked at together (Holm 1979), and None for what could not be significant at all.

    Those are none of the number that is looked at (Tarone 1990): a few boots of many machines would hide what many boots of
    one have shown.
    """
    factor = next(
        (count for count in range(1, len(changes)) if sum(each.least * count <= significant for each in changes) <= count),
        len(changes),
    )
    asked = [index for index, each in enumerate(changes) if each.least * factor <= significant]
    found: list[float | None] = [None] * len(changes)
    highest = 0.0
    for place, index in enumerate(sorted(asked, key=lambda index: changes[index].p)):
        highest = max(highest, min(1.0, changes[index].p * (len(asked) - place)))
        found[index] = highest
    return found


def _sums(ranks: Sequence[int], size: int) -> Counter[int]:
    """In how many ways `size` of the ranks have each sum."""
    ways = [Counter({0: 1}), *(Counter[int]() for _ in range(size))]
    for rank in ranks:
        for count in range(size, 0, -1):
            for total, number in ways[count - 1].items():
                ways[count][total + rank] += number
    return ways[size]


def _normal(ranks: Sequence[int], size: int, distance: float) -> float:
    number = len(ranks)
    mean = number + 1
    spread = sum((rank - mean) ** 2 for rank in ranks) / (number - 1)
    deviation = math.sqrt(size * (number - size) / number * spread)
    # Ranks are doubled: the continuity correction of one half is one.
    return 1.0 if not deviation else min(1.0, math.erfc(max(0.0, distance - 1) / deviation / math.sqrt(2)))
