"""The one wait: each of its ends, in the order of the feed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.errors import HarnessError, Party
from harness.verdict import judge as judge_module
from harness.verdict.feed import (
    ConsoleLine,
    Feed,
    Happening,
    QemuExit,
)
from harness.verdict.goal import LineMatching
from harness.verdict.judge import Judge, Patience, wait
from harness.verdict.lost_time import Moment
from harness.verdict.outcome import (
    GuestDied,
    Met,
    Outcome,
    QemuDied,
    Stalled,
    TooLate,
    error,
    party,
)
from tests.verdict.heard import LONG, NOW, PANIC, fed, never, says


@contextmanager
def published_later(feed: Feed, *happenings: Callable[[], Happening], every: float = 0.06) -> Iterator[list[float]]:
    """Publishes from another thread; yields the list of the times at which it did."""
    times: list[float] = []

    def run() -> None:
        for make in happenings:
            time.sleep(every)
            times.append(time.monotonic())
            feed.publish(make())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield times
    finally:
        thread.join()


def test_met_holds_what_met_the_goal() -> None:
    login = ConsoleLine("login:")
    assert wait(fed(ConsoleLine("a"), login), says("login"), NOW) == Met(login)


def test_a_met_goal_needs_no_time_left() -> None:
    assert isinstance(wait(fed(ConsoleLine("login:")), says("login"), Patience(0, 0)), Met)


def test_what_was_before_the_start_does_not_count() -> None:
    feed = fed(ConsoleLine("login:"), ConsoleLine(PANIC))
    assert wait(feed, says("login"), NOW, start=feed.position()) == TooLate(0)
    assert isinstance(wait(feed, says("login"), NOW, start=1), GuestDied)


def test_a_condition_is_asked_beside_what_is_heard() -> None:
    asked = iter([False, False, True])
    assert wait_for(asked, fed()) == Met()
    assert isinstance(wait_for(iter([False, True]), fed(QemuExit(1, ""))), QemuDied)


def wait_for(answers: Iterator[bool], feed: Feed) -> Outcome:
    return Judge(feed).wait(never, LONG, condition=lambda: next(answers))


def test_a_line_before_the_mark_meets_nothing() -> None:
    feed = fed(ConsoleLine("login:"))
    judge = Judge(feed)
    met = judge.wait(says("login"), NOW)
    assert isinstance(met, Met)
    assert judge.wait(says("login"), NOW, since=met.position) == TooLate(0)
    assert isinstance(judge.wait(says("login"), NOW, since=0), Met)


def test_a_host_that_takes_the_cpu_stretches_the_wait_and_is_at_fault() -> None:
    began = time.monotonic()
    starved = Judge(Feed(), lost=lambda: time.monotonic() - began)
    outcome = starved.wait(never, Patience(within=0.1, silence=30))
    assert time.monotonic() - began == pytest.approx(0.3, abs=0.2)
    assert party(outcome) is Party.HOST
    assert isinstance(error(outcome, "late"), HarnessError)


def test_what_the_host_took_before_the_wait_began_is_given_back_too() -> None:
    """A budget that began with an earlier wait: nine of its ten seconds were the host's."""
    begun = Moment(time.monotonic() - 10)
    asked = time.monotonic()
    assert Judge(Feed()).wait(never, Patience(within=9, silence=30), begun=begun) == TooLate(9, 0.0)
    assert time.monotonic() - asked < 5, "a budget that was over is waited for again"
    with published_later(feed := Feed(), lambda: ConsoleLine("login:")):
        met = Judge(feed, lost=lambda: 9.0).wait(says("login"), Patience(within=5, silence=30), begun=begun)
    assert isinstance(met, Met)


def test_a_budget_is_stretched_to_three_times_its_length_and_no_further() -> None:
    starved = Judge(Feed(), lost=lambda: 8.0)
    outcome = starved.wait(never, Patience(within=2.2, silence=30), begun=Moment(time.monotonic() - 10))
    assert outcome == TooLate(2.2, 4.4)
    assert party(outcome) is Party.HOST
    began = time.monotonic()
    assert starved.wait(never, Patience(within=4.0, silence=30), begun=Moment(began - 10)) == TooLate(4.0, 8.0)
    assert 2 <= time.monotonic() - began < 3, "12 s in all, of which 10 were over"
    idle = Judge(Feed()).wait(never, Patience(within=2.2, silence=30), begun=Moment(began - 10))
    assert party(idle) is Party.NODE


def test_silence_is_that_of_the_wait_alone() -> None:
    outcome = Judge(Feed()).wait(never, Patience(within=60, silence=0.2), begun=Moment(time.monotonic() - 10))
    assert isinstance(outcome, Stalled)


def test_the_first_in_the_feed_wins() -> None:
    login, panic, end = ConsoleLine("login:"), ConsoleLine(PANIC), QemuExit(1, "")
    assert isinstance(wait(fed(login, panic, end), says("login"), LONG), Met)
    assert isinstance(wait(fed(panic, login, end), says("login"), LONG), GuestDied)
    assert isinstance(wait(fed(end, panic, login), says("login"), LONG), QemuDied)


def test_on_one_happening_the_goal_comes_before_the_doom() -> None:
    panic = ConsoleLine(PANIC)
    assert wait(fed(panic), says("Kernel panic"), LONG) == Met(panic)
    end = QemuExit(0, "")
    assert wait(fed(end), lambda happening: isinstance(happening, QemuExit), LONG) == Met(end)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: QemuExit(1, "gone"), QemuDied),
        (lambda: ConsoleLine(PANIC), GuestDied),
        (lambda: ConsoleLine("login:"), Met),
    ],
)
def test_what_is_published_meanwhile_ends_the_wait_at_once(make: Callable[[], Happening], kind: type[Outcome]) -> None:
    feed = fed(ConsoleLine("before"))
    with published_later(feed, make) as times:
        outcome = wait(feed, says("login"), LONG)
        ended = time.monotonic()
    assert isinstance(outcome, kind)
    assert 0 <= ended - times[0] < 0.5


def test_silence_is_a_stall() -> None:
    began = time.monotonic()
    outcome = wait(fed(ConsoleLine("a")), never, Patience(within=30, silence=0.1))
    assert isinstance(outcome, Stalled)
    assert 0.1 <= outcome.silent < 0.7
    assert time.monotonic() - began < 0.7


def test_a_node_that_talks_to_the_end_is_too_late_and_not_stalled() -> None:
    feed = Feed()
    with published_later(feed, *[lambda: ConsoleLine("tick")] * 4):
        outcome = wait(feed, never, Patience(within=0.2, silence=0.15))
    assert outcome == TooLate(0.2)


def test_silence_counts_from_the_last_word() -> None:
    feed = Feed()
    with published_later(feed, *[lambda: ConsoleLine("tick")] * 2) as times:
        outcome = wait(feed, never, Patience(within=30, silence=0.15))
        ended = time.monotonic()
    assert isinstance(outcome, Stalled)
    assert len(times) == 2
    assert ended - times[-1] == pytest.approx(0.15, abs=0.12)


def at_once(*lines: str) -> Feed:
    """Lines that the serial port brought in one piece."""
    feed = Feed()
    feed.publish_text("\n".join(lines), at=1.0)
    return feed


@pytest.mark.parametrize("heard", [False, True], ids=["news", "heard by a wait before"])
def test_a_goal_is_found_among_lines_that_came_at_once(heard: bool) -> None:
    judge = Judge(at_once("quiet", "the goal", "quiet", "the goal"))
    if heard:
        assert judge.verdict() is None
    assert judge.wait(LineMatching("^the goal$"), NOW, since=0) == Met(ConsoleLine("the goal", at=1.0), 2)
    assert judge.wait(LineMatching("^the goal$"), NOW, since=2) == Met(ConsoleLine("the goal", at=1.0), 4)
    assert judge.wait(LineMatching("^the goal$"), NOW, since=4) == TooLate(0)


@pytest.mark.parametrize("behind", ["quiet", "the goal"])
def test_a_death_is_found_among_lines_that_came_at_once(behind: str) -> None:
    outcome = Judge(at_once("quiet", PANIC, behind)).wait(LineMatching("^the goal$"), LONG)
    assert outcome == GuestDied("kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)")


def test_what_a_question_heard_meanwhile_meets_the_goal_too() -> None:
    feed = Feed()
    judge, asked = Judge(feed), list[int]()

    def condition() -> bool:
        # As of a command on the node, which looks whether the node is over.
        feed.publish(ConsoleLine("login:", at=1.0) if not asked else ConsoleLine("quiet"))
        assert judge.verdict() is None
        asked.append(1)
        return False

    assert judge.wait(says("login"), LONG, condition=condition) == Met(ConsoleLine("login:", at=1.0), 1)
    assert len(asked) == 1


def test_what_a_question_heard_meanwhile_is_no_silence() -> None:
    feed = Feed()
    judge = Judge(feed)

    def condition() -> bool:
        feed.publish(ConsoleLine("a word"))
        assert judge.verdict() is None
        return False

    assert isinstance(judge.wait(never, Patience(1.0, 0.7), condition=condition), TooLate)


def test_of_a_goal_and_a_death_that_came_at_once_the_first_is_true() -> None:
    outcome = Judge(at_once("the goal", PANIC)).wait(LineMatching("^the goal$"), LONG)
    assert outcome == Met(ConsoleLine("the goal", at=1.0), 1)


def test_what_was_heard_before_is_searched_for_the_goal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def tells(text: str) -> bool:
        searched.append(text)
        return False

    monkeypatch.setattr(judge_module, "tells", tells)
    feed = at_once("one", "two", "three")
    judge = Judge(feed)
    for pattern in ("one", "two", "three"):
        assert isinstance(judge.wait(LineMatching(pattern), NOW), Met)
    assert len(searched) == 1
