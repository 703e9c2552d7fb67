"""What the host took from a node: how much by when, and how much longer a wait may last for it."""

import time

import pytest

from harness.verdict.judge import Clock, Patience
from harness.verdict.lost_time import LostTime, Moment, stretch
from harness.verdict.outcome import TooLate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as its one value."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_was_lost_by_a_moment_is_known_later(clock: list[float]) -> None:
    counted = [0.0]
    lost = LostTime(lambda: counted[0])
    for clock[0], counted[0] in ((101.0, 0.5), (102.0, 1.5), (103.0, 1.5)):
        lost()
    assert [lost.by(at) for at in (99.0, 100.5, 101.0, 101.9, 102.5, 200.0)] == [0, 0, 0.5, 0.5, 1.5, 1.5]


def test_what_was_lost_stays_lost_when_nobody_counts_any_more(clock: list[float]) -> None:
    counts = iter([3.0, 0.0])
    lost = LostTime(lambda: next(counts))
    assert [lost(), lost()] == [3.0, 3.0]


def test_a_wait_is_stretched_by_what_was_lost_and_not_for_ever() -> None:
    assert [stretch(10, lost) for lost in (0, 4, 20, 100)] == [0, 4, 20, 20]


def test_what_was_lost_before_it_was_asked_for_is_given_back_too(clock: list[float]) -> None:
    lost = [5.0]
    waited = Clock(Patience(10, 30), lambda: lost[0], Moment(92.0, 1.0))
    assert (waited.over(), waited.left()) == (None, 6.0)
    clock[0] += 7
    assert waited.over() == TooLate(10, 4)
    lost[0] += 2
    assert (waited.over(), waited.left()) == (None, 1.0)


def test_without_a_loss_no_second_is_given(clock: list[float]) -> None:
    waited = Clock(Patience(10, 30), lambda: 0.0, Moment(92.0))
    clock[0] = 101.9
    assert waited.over() is None
    clock[0] = 102.0
    assert waited.over() == TooLate(10, 0)
