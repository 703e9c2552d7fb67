"""The rank test: its p is that of the tables, with ties and without."""

import math
import time

import pytest

from harness.report import statistics
from harness.report.statistics import Change


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [
        pytest.param([1, 2, 3], [4, 5, 6], 0.1, id="three and three apart"),
        pytest.param([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252, id="five and five apart"),
        pytest.param([1, 3, 5], [2, 4, 6], 0.7, id="mixed"),
        pytest.param([5, 5, 5], [5, 5, 5], 1.0, id="all the same"),
        pytest.param([1, 1, 2], [2, 3, 3], 0.2, id="ties"),
        pytest.param([1], [2], 1.0, id="one and one"),
    ],
)
def test_exact(one: list[float], other: list[float], p: float) -> None:
    assert statistics.rank_test(one, other) == pytest.approx(p)
    assert statistics.rank_test(other, one) == pytest.approx(p)


def test_two_beside_two_hundred_take_no_time() -> None:
    many = [float(each) for each in range(200)]
    began = time.process_time()
    assert statistics.rank_test(many, [500, 501]) == pytest.approx(2 / math.comb(202, 2))
    assert time.process_time() - began < 5


def test_the_normal_approximation_joins_the_exact_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = [float(each) for each in range(20)], [each // 2 + 10.5 for each in range(20)]
    exact = statistics.rank_test(one, other)
    monkeypatch.setattr(statistics, "_EXACT", 0)
    assert statistics.rank_test(one, other) == pytest.approx(exact, rel=0.35)


def test_a_change_has_its_size() -> None:
    change = statistics.compare([10.0, 10.2, 10.1, 9.9, 10.0], [11.9, 12.1, 12.0, 11.8, 12.2])
    assert change.shift == pytest.approx(2.0, abs=0.05)
    assert change.p == pytest.approx(2 / 252, abs=1e-3)


def changes(*ps: float, least: float = 0.001) -> list[Change]:
    return [Change(1.0, p, least) for p in ps]


def test_looked_at_together_p_grows() -> None:
    assert statistics.adjusted(changes(0.01, 0.04, 0.03), 0.05) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.adjusted([], 0.05) == []


def test_what_too_few_boots_passed_hides_nothing() -> None:
    few, many = changes(*[0.5] * 60, least=0.33), changes(0.002, 0.9)
    assert statistics.adjusted([*few, *many], 0.05) == [*[None] * 60, pytest.approx(0.004), pytest.approx(0.9)]
    assert statistics.adjusted(changes(*[0.01] * 6, least=0.01), 0.05) == [None] * 6


def test_a_sample_says_what_it_can_show() -> None:
    assert statistics.compare([1.0, 2.0], [8.0, 9.0]).least == pytest.approx(2 / 6)
