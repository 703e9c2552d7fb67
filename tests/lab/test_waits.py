"""By when a stage has to be passed: the clock of the waits, by which a scenario holds a boot to its budgets."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from harness.errors import NodeFailure
from harness.lab import waits as waits_of
from harness.lab.expectation import Expectation, milestones_of
from harness.lab.waits import Waits
from harness.manifests.pods import StaticPod
from harness.verdict.feed import ConsoleLine, ContainerState, Feed
from harness.verdict.lost_time import LostTime, Moment
from harness.verdict.outcome import Stalled, TooLate
from harness.verdict.timeline import CONSOLE, FIRMWARE, INIT, KERNEL, Milestone
from scenarios import boot

# The kernel after 50 s, init after 130, which has 120.
_LINES = (
    ("BdsDxe: starting Boot0000 from HD(1,GPT)/\\EFI\\Boot\\Bootx64.efi", 40.0),
    ("[    0.000000] Linux version 6.12.0", 50.0),
    ("[   80.000000] Run /init as init process", 130.0),
)
_NO_LOSS = ((0.0, 0.0), (200.0, 0.0))
_LOST_BY_THEN = ((0.0, 0.0), (60.0, 0.0), (129.9, 15.0), (200.0, 15.0))


def waits_on(
    feed: Feed,
    started: float,
    lost: LostTime,
    slowness: float = 1.0,
    look: Callable[[], None] = lambda: None,
    witnesses: Callable[[], Any] = lambda: pytest.fail("a wait ended without what it was for"),
    is_silent: bool = False,
) -> Waits:
    own = StaticPod("own.yaml", {"metadata": {"name": "own"}, "spec": {"containers": [{"name": "main", "image": "i"}]}})
    expected = Expectation([], own, slowness, lambda: False, "52:54:00:6b:69:6f", is_silent=is_silent)
    return Waits(feed, started, expected, None, lost=lost, full_disk=str, look=look, witnesses=witnesses)


def waits(*lost: tuple[float, float], slowness: float = 1.0) -> Waits:
    """Those of a boot in which so many seconds were lost by so many after its start."""
    feed, started = Feed(), time.monotonic() - 1000
    for text, after in _LINES:
        feed.publish(ConsoleLine(text, started + after))
    counted = LostTime(lambda: lost[-1][1])
    counted._known = [Moment(started + at, seconds) for at, seconds in lost]
    return waits_on(feed, started, counted, slowness)


@pytest.mark.parametrize(
    ("lost", "milestone", "seconds"),
    [
        pytest.param(_NO_LOSS, INIT, 120, id="an idle host gives nothing"),
        pytest.param(_LOST_BY_THEN, INIT, 135, id="what was lost is given back"),
        pytest.param(_LOST_BY_THEN, KERNEL, 90, id="not what was lost after the stage"),
        pytest.param(((0.0, 0.0), (100.0, 900.0)), INIT, 360, id="and not for ever"),
    ],
)
def test_a_stage_has_its_budget_and_what_the_host_took(
    lost: tuple[tuple[float, float], ...], milestone: Milestone, seconds: float
) -> None:
    assert waits(*lost).budget(milestone) == pytest.approx(seconds)


def test_a_slow_host_has_longer_budgets() -> None:
    assert waits(*_NO_LOSS, slowness=2.0).budget(INIT) == pytest.approx(240)


def test_a_milestone_that_never_came_has_what_was_lost_so_far() -> None:
    later = Milestone("later", lambda _: False, 300)
    assert waits(*_LOST_BY_THEN).budget(later) == pytest.approx(315)


class _Came(Exception):  # noqa: N818 - the scenario went on
    pass


def run_scenario(timed: Waits) -> None:
    """The scenario about the way up, on a node of which only that is known."""

    def further(_: str) -> None:
        raise _Came

    node = SimpleNamespace(
        order=SimpleNamespace(load_options=b"some"),
        start=lambda: None,
        wait=lambda _: None,
        wait_until_ready=lambda: None,
        timeline=timed.passed,
        boot=timed,
        run=further,
    )

    def made(*_: object) -> Any:
        return node

    disk: Any = SimpleNamespace(esp=SimpleNamespace(number=1, guid=UUID(int=0)))
    boot.test_firmware_starts_the_efi_binary_and_the_node_comes_up(made, disk)  # type: ignore[arg-type]


def test_the_scenario_fails_for_a_stage_that_the_node_is_too_slow_in() -> None:
    with pytest.raises(AssertionError, match="init came after 130 s"):
        run_scenario(waits(*_NO_LOSS))


def test_the_scenario_passes_where_the_host_was_too_slow() -> None:
    with pytest.raises(_Came):
        run_scenario(waits(*_LOST_BY_THEN))


def test_a_wait_for_a_milestone_gives_back_what_was_lost_before_it_was_asked_for() -> None:
    feed, looks = Feed(), list[int]()
    line = ConsoleLine("[    0.000000] Linux version 6.12.0")

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            feed.publish(line)

    asked_late = waits_on(feed, time.monotonic() - 100, LostTime(lambda: 50.0), look=look)
    assert asked_late.wait(KERNEL, None, None) is line


def test_what_a_node_survived_is_told_with_how_long_ago_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, told = Feed(), list[str]()
    stuck = "[    9.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [a:1]"
    feed.publish_all([ConsoleLine(stuck, time.monotonic() - 40), ConsoleLine("[    9.000000] kernel BUG at mm/slub.c:1!")])

    def failure(*args: Any) -> Exception:
        told.extend(args[3].troubles)
        return NodeFailure("a wait that failed")

    monkeypatch.setattr(waits_of.evidence, "failure", failure)  # type: ignore[attr-defined]
    with pytest.raises(NodeFailure):
        waits_on(feed, time.monotonic(), LostTime(lambda: 0.0), witnesses=lambda: None).wait("a line", 30, None)
    assert told == ["soft lockup: CPU 0 was stuck for 26 s in a:1 (40 s ago)"]


def fails_with_what_was_heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Outcomes and what was heard, of each wait that fails from now on."""
    told: list[Any] = []

    def failure(outcome: Any, _: str, __: str, heard: Any, ___: Any) -> Exception:
        told.extend([outcome, heard])
        return NodeFailure("a wait that failed")

    monkeypatch.setattr(waits_of.evidence, "failure", failure)  # type: ignore[attr-defined]
    monkeypatch.setattr(waits_of, "_SILENCE", 0.3)
    return told


@pytest.mark.parametrize("goal", ["the backup is done", Milestone("later", lambda _: False, 300)])
def test_a_time_that_was_chosen_is_waited_for_though_nothing_is_heard(goal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fails_with_what_was_heard(monkeypatch)
    quiet = waits_on(Feed(), time.monotonic(), LostTime(lambda: 0.0), witnesses=lambda: None)
    with pytest.raises(NodeFailure):
        quiet.wait(goal, 0.8, None)
    assert told[0] == TooLate(0.8)


def test_a_silent_kernel_has_the_time_until_the_console_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    told = fails_with_what_was_heard(monkeypatch)
    monkeypatch.setattr(waits_of, "CONSOLE", replace(CONSOLE, within=0.8))
    for goal in (KERNEL, INIT):
        silent = waits_on(Feed(), time.monotonic(), LostTime(lambda: 0.0), is_silent=True, witnesses=lambda: None)
        assert [silent.budget(each) for each in (FIRMWARE, goal)] == pytest.approx([FIRMWARE.within, 0.8])
        with pytest.raises(NodeFailure):
            silent.wait(goal, None, None)
    assert told[::2] == [TooLate(0.8)] * 2, "its silence is no stall"


def test_a_stage_in_which_nothing_is_heard_has_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    told = fails_with_what_was_heard(monkeypatch)
    quiet = waits_on(Feed(), time.monotonic(), LostTime(lambda: 0.0), witnesses=lambda: None)
    with pytest.raises(NodeFailure):
        quiet.wait(INIT, None, None)
    assert isinstance(told[0], Stalled)


def test_a_wait_for_a_containers_end_tells_of_that_container(monkeypatch: pytest.MonkeyPatch) -> None:
    told = fails_with_what_was_heard(monkeypatch)
    spec = {"initContainers": [{"name": "first", "image": "i"}], "containers": [{"name": "main", "image": "i"}]}
    pod, feed = StaticPod("web.yaml", {"metadata": {"name": "web"}, "spec": spec}), Feed()
    waiting = waits_on(feed, time.monotonic(), LostTime(lambda: 0.0), witnesses=lambda: None)
    waiting.expect(pod)
    for running in (False, True):
        if running:
            feed.publish(ContainerState("web", "first", "running"))
        with pytest.raises(NodeFailure):
            waiting.wait(milestones_of(pod)[0], 0, None)
    whose = ("default", "web", "first")
    unknown, known = (heard.unended for heard in told[1::2])
    assert (unknown, [container for _, container in known]) == ([("", whose)], [whose])
    assert known[0][0].startswith("container first of pod web has not ended: it has run for ")
