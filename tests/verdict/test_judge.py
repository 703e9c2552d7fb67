"""The one wait: each of its outcomes, in the order of the feed, and the words it is reported in."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.verdict.feed import ConsoleLine, ContainerState, Feed, Happening, QemuExit, QmpEvent
from harness.verdict.judge import (
    Contradicted,
    GuestDied,
    Met,
    Outcome,
    Patience,
    QemuDied,
    Stalled,
    TooLate,
    explain,
    wait,
)

_PANIC = "[    1.23] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
_NOW = Patience(within=0, silence=10)
_LONG = Patience(within=30, silence=30)


def fed(*happenings: Happening) -> Feed:
    feed = Feed()
    feed.publish_all(happenings)
    return feed


def never(_: Happening) -> bool:
    return False


def says(text: str) -> Callable[[Happening], bool]:
    return lambda happening: isinstance(happening, ConsoleLine) and text in happening.text


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
    assert wait(fed(ConsoleLine("a"), login), says("login"), _NOW) == Met(login)


def test_a_met_goal_needs_no_time_left() -> None:
    assert isinstance(wait(fed(ConsoleLine("login:")), says("login"), Patience(0, 0)), Met)


def test_what_was_before_the_start_does_not_count() -> None:
    feed = fed(ConsoleLine("login:"), ConsoleLine(_PANIC))
    assert wait(feed, says("login"), _NOW, start=feed.position()) == TooLate(0)
    assert isinstance(wait(feed, says("login"), _NOW, start=1), GuestDied)


@pytest.mark.parametrize(
    "text",
    [
        _PANIC,
        "[    3.1] Oops: 0000 [#1] PREEMPT SMP",
        "[    3.1] BUG: unable to handle page fault for address: 0000000000001000",
        "[   30.1] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
        "[    9.9] Out of memory: Killed process 88 (kubelet)",
        "[    2.2] kiOS: cannot mount the data partition /dev/nvme0n1p2: Invalid argument",
        "[    2.2] kiOS: cannot mount the data partition",
        "UEFI Interactive Shell v2.2",
        "Shell> ",
        "BdsDxe: No bootable option or device was found.",
        'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT): Not Found',
    ],
)
def test_a_fatal_line_is_the_guests_death_in_its_own_words(text: str) -> None:
    outcome = wait(fed(ConsoleLine(text)), never, _LONG)
    assert isinstance(outcome, GuestDied)
    assert text.strip() in outcome.how


@pytest.mark.parametrize(
    "text",
    [
        "[    0.1] Kernel command line: panic=10",
        "crio: oops",
        "app: Whoops: all gone",
        "kiOS: starting kubelet as process 49",
        "sh: Shell> is odd",
    ],
)
def test_a_line_that_only_looks_fatal_ends_nothing(text: str) -> None:
    assert wait(fed(ConsoleLine(text)), never, _NOW) == TooLate(0)


@pytest.mark.parametrize(
    ("event", "how"),
    [
        (QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}), "switched off (guest-shutdown)"),
        (QmpEvent("RESET", {"guest": True, "reason": "guest-reset"}), "reset (guest-reset)"),
        (QmpEvent("GUEST_PANICKED"), "panic"),
        (QmpEvent("STOP"), "stopped"),
    ],
)
def test_an_event_of_the_machines_end_is_the_guests_death(event: QmpEvent, how: str) -> None:
    outcome = wait(fed(event), never, _LONG)
    assert isinstance(outcome, GuestDied)
    assert how in outcome.how


@pytest.mark.parametrize("event", [QmpEvent("RESET", {"guest": False}), QmpEvent("RESUME"), QmpEvent("POWERDOWN")])
def test_other_events_end_nothing(event: QmpEvent) -> None:
    assert wait(fed(event), never, _NOW) == TooLate(0)


def starts(daemon: str, times: int, every: float) -> list[Happening]:
    return [ConsoleLine(f"[   30.0] kiOS: starting {daemon}", at=number * every) for number in range(times)]


def test_a_daemon_that_ends_as_soon_as_it_is_started_is_named() -> None:
    outcome = wait(fed(*starts("crio", 1, 1), *starts("kubelet", 5, 1)), never, _LONG)
    assert isinstance(outcome, Contradicted)
    assert outcome.by.startswith("init started kubelet 5 times within 4 s")


def test_daemons_that_are_restarted_now_and_then_end_nothing() -> None:
    feed = fed(*starts("kubelet", 9, 20), *starts("crio", 4, 1))
    assert isinstance(wait(feed, never, _NOW), TooLate)


def test_qemus_end_is_told_with_status_and_words() -> None:
    assert wait(fed(QemuExit(-11, "qemu: boom")), never, _LONG) == QemuDied(-11, "qemu: boom")


@pytest.mark.parametrize(
    ("state", "by"),
    [
        (ContainerState("node", "parted", "terminated", "Error", exit_code=1), "parted of pod node ended with status 1: Error"),
        (
            ContainerState("node", "parted", "waiting", "ErrImageNeverPull: is absent"),
            "parted of pod node cannot run: ErrImage",
        ),
        (ContainerState("node", "parted", "waiting", "CrashLoopBackOff"), "cannot run: CrashLoopBackOff"),
    ],
)
def test_a_failed_container_of_a_pod_that_matters_ends_the_wait(state: ContainerState, by: str) -> None:
    outcome = wait(fed(state), never, _LONG, doomed=["console", "node"])
    assert isinstance(outcome, Contradicted)
    assert by in outcome.by


def test_a_failed_container_of_another_pod_ends_nothing() -> None:
    state = ContainerState("other", "main", "terminated", "Error", exit_code=1)
    assert wait(fed(state), never, _NOW, doomed=["node"]) == TooLate(0)
    assert wait(fed(state), never, _NOW) == TooLate(0)


@pytest.mark.parametrize(
    "state",
    [
        ContainerState("node", "parted", "terminated", "Completed", exit_code=0),
        ContainerState("node", "parted", "waiting", "PodInitializing"),
        ContainerState("node", "parted", "waiting"),
        ContainerState("node", "parted", "running"),
    ],
)
def test_a_container_on_its_way_ends_nothing(state: ContainerState) -> None:
    assert wait(fed(state), never, _NOW, doomed=["node"]) == TooLate(0)


def test_the_first_in_the_feed_wins() -> None:
    login, panic, end = ConsoleLine("login:"), ConsoleLine(_PANIC), QemuExit(1, "")
    assert isinstance(wait(fed(login, panic, end), says("login"), _LONG), Met)
    assert isinstance(wait(fed(panic, login, end), says("login"), _LONG), GuestDied)
    assert isinstance(wait(fed(end, panic, login), says("login"), _LONG), QemuDied)


def test_on_one_happening_the_goal_comes_before_the_doom() -> None:
    panic = ConsoleLine(_PANIC)
    assert wait(fed(panic), says("Kernel panic"), _LONG) == Met(panic)
    end = QemuExit(0, "")
    assert wait(fed(end), lambda happening: isinstance(happening, QemuExit), _LONG) == Met(end)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: QemuExit(1, "gone"), QemuDied),
        (lambda: ConsoleLine(_PANIC), GuestDied),
        (lambda: ConsoleLine("login:"), Met),
    ],
)
def test_what_is_published_meanwhile_ends_the_wait_at_once(make: Callable[[], Happening], kind: type[Outcome]) -> None:
    feed = fed(ConsoleLine("before"))
    with published_later(feed, make) as times:
        outcome = wait(feed, says("login"), _LONG)
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


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (Contradicted("container parted failed"), "it cannot happen any more: container parted failed"),
        (GuestDied(_PANIC), f"the guest died: {_PANIC}"),
        (QemuDied(-9, " words \n"), "QEMU died with status -9: words"),
        (QemuDied(1, " \n"), "QEMU died with status 1: without a word"),
        (Stalled(59.6), "nothing was heard from the node for 60 s"),
        (TooLate(180), "it did not happen within 180 s"),
    ],
)
def test_an_explanation_names_what_why_how_far_and_the_last_words(outcome: Outcome, cause: str) -> None:
    lines = [ConsoleLine(f"line {number}") for number in range(12)]
    words = explain(outcome, "milestone crio", fed(*lines, ConsoleLine("  "), QmpEvent("RESUME")), ["firmware", "kernel"])
    assert words.splitlines() == [
        f"milestone crio: {cause}",
        "reached: firmware, kernel",
        "last words on the console:",
        *(f"  | line {number}" for number in range(4, 12)),
    ]


def test_an_explanation_says_when_nothing_was_reached() -> None:
    assert "reached: nothing, not even the firmware" in explain(TooLate(1), "milestone firmware", Feed(), [])
