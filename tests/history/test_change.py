"""Changes in a series: a step and a drift are found where they are, noise and a single bad night are not."""

import random

import pytest

from harness.history.change import change_points


def noise(number: int, level: float, share: float, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [level * (1 + share * chance.gauss(0, 1)) for _ in range(number)]


@pytest.mark.parametrize("seed", range(5))
def test_a_step_of_five_percent_is_found_where_it_is(seed: int) -> None:
    [found] = change_points(noise(15, 40, 0.01, seed) + noise(15, 42, 0.01, seed + 100))
    assert abs(found.index - 15) <= 1
    assert found.after / found.before == pytest.approx(1.05, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_a_drift_of_one_percent_a_night_is_found(seed: int) -> None:
    series = [value * 1.01**night for night, value in enumerate(noise(21, 40, 0.02, seed))]
    found = change_points(series)
    assert found
    assert found[-1].after > found[0].before


def test_two_steps_are_two() -> None:
    found = change_points([*noise(15, 40, 0.01, 1), *noise(15, 44, 0.01, 2), *noise(15, 40, 0.01, 3)])
    assert [abs(point.index - place) <= 1 for point, place in zip(found, (15, 30), strict=True)] == [True, True]


def test_noise_is_no_change() -> None:
    assert sum(bool(change_points(noise(30, 40, 0.05, seed))) for seed in range(200)) <= 4


def test_one_bad_night_is_no_change() -> None:
    series = noise(30, 40, 0.01, 7)
    series[17] = 400
    assert change_points(series) == []


@pytest.mark.parametrize("series", [[], [1.0], [1.0, 2.0] * 3, [5.0] * 40])
def test_what_shows_nothing_says_nothing(series: list[float]) -> None:
    assert change_points(series) == []
