"""The one wait: each of its outcomes, in the order of the feed, and the words it is reported in."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.errors import HarnessError, NodeFailure, Party
from harness.verdict.feed import (
    ConsoleLine,
    ContainerState,
    Feed,
    Happening,
    PodState,
    QemuContinued,
    QemuExit,
    QemuStopped,
    QmpEvent,
    Restored,
)
from harness.verdict.goal import LineMatching
from harness.verdict.judge import Judge, Patience, wait
from harness.verdict.outcome import (
    Contradicted,
    GuestDied,
    HostStopped,
    Met,
    NoSpace,
    Outcome,
    QemuDied,
    Stalled,
    TooLate,
    cause,
    error,
    explain,
    party,
)
from harness.verdict.situation import Awaited

_PANIC = "[    1.230000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
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
        "[    3.100000] Oops: 0000 [#1] PREEMPT SMP",
        "[    2.200000] kiOS: cannot mount the data partition",
        "UEFI Interactive Shell v2.2",
        "Shell> ",
        "BdsDxe: No bootable option or device was found.",
        'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT): Not Found',
    ],
)
def test_a_fatal_line_is_the_guests_death_in_its_own_words(text: str) -> None:
    outcome = wait(fed(ConsoleLine(text)), never, _LONG)
    assert isinstance(outcome, GuestDied)
    assert re.split(r"syncing: |kiOS: |\d\] ", text.strip())[-1] in outcome.how


@pytest.mark.parametrize(
    "text",
    [
        "[    0.100000] Kernel command line: panic=10",
        "crio: oops",
        "app: Whoops: all gone",
        "kiOS: kubelet has exited! Restarting, says a pod",
        "sh: Shell> is odd",
        "kios# grep 'Kernel panic - not syncing' /host/var/log/messages",
        "Kernel panic - not syncing: said a pod",
        "2026-11-25T10:00:00Z stdout F [    1.230000] Kernel panic - not syncing",
    ],
)
def test_a_line_that_only_looks_fatal_ends_nothing(text: str) -> None:
    assert wait(fed(ConsoleLine(text)), never, _NOW) == TooLate(0)


@pytest.mark.parametrize(
    ("event", "kind", "how"),
    [
        (QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}), GuestDied, "switched off (guest-shutdown)"),
        (QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-panic"}), GuestDied, "switched off (guest-panic)"),
        (QmpEvent("RESET", {"guest": True, "reason": "guest-reset"}), GuestDied, "reset (guest-reset)"),
        (QmpEvent("GUEST_PANICKED"), GuestDied, "panic"),
        (QmpEvent("SHUTDOWN", {"guest": False, "reason": "host-signal"}), HostStopped, "sent QEMU a signal"),
        (QmpEvent("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"}), HostStopped, "told QEMU to quit"),
        (QmpEvent("SHUTDOWN", {"guest": False, "reason": "of tomorrow"}), HostStopped, "of tomorrow"),
        (QmpEvent("RESET", {"guest": False, "reason": "host-qmp-system-reset"}), HostStopped, "reset it over QMP"),
        (QmpEvent("STOP"), HostStopped, "stopped"),
    ],
)
def test_an_event_of_the_machines_end_names_who_ended_it(event: QmpEvent, kind: type[Outcome], how: str) -> None:
    outcome = wait(fed(event), never, _LONG)
    assert isinstance(outcome, GuestDied | HostStopped)
    assert isinstance(outcome, kind)
    assert how in outcome.how


@pytest.mark.parametrize("event", [QmpEvent("RESET", {"guest": False}), QmpEvent("RESUME"), QmpEvent("POWERDOWN")])
def test_other_events_end_nothing(event: QmpEvent) -> None:
    assert wait(fed(event), never, _NOW) == TooLate(0)


def test_a_qemu_that_is_stopped_is_the_hosts_and_one_that_goes_on_is_none() -> None:
    outcome = wait(fed(QemuStopped()), never, _LONG)
    assert isinstance(outcome, HostStopped)
    assert "by a signal" in outcome.how
    judge = Judge(fed(QemuStopped(), QemuContinued()))
    assert isinstance(judge.wait(never, _NOW), HostStopped)
    assert judge.wait(never, _NOW) == TooLate(0)


@pytest.mark.parametrize(
    ("end", "others"),
    [
        (QmpEvent("STOP"), QemuContinued()),
        (QemuStopped(), QmpEvent("RESUME")),
        (QmpEvent("RESET", {"guest": False, "reason": "host-qmp-system-reset"}), QmpEvent("RESUME")),
        (QmpEvent("SHUTDOWN", {"guest": False, "reason": "host-signal"}), QemuContinued()),
    ],
)
def test_what_somebody_else_lets_go_on_stays_as_it_is(end: Happening, others: Happening) -> None:
    judge = Judge(fed(end, others))
    first = judge.wait(never, _NOW)
    assert isinstance(first, HostStopped)
    assert judge.wait(never, _NOW) == first


def test_a_machine_that_goes_on_was_not_ended() -> None:
    assert wait(fed(QmpEvent("STOP"), QmpEvent("RESUME")), never, _NOW, start=1) == TooLate(0)
    judge = Judge(fed(QmpEvent("STOP"), QmpEvent("RESUME")))
    assert isinstance(judge.wait(never, _NOW), HostStopped)
    assert judge.wait(never, _NOW) == TooLate(0)


def test_a_full_disk_of_the_host_is_told_as_that() -> None:
    outcome = wait(fed(QmpEvent("BLOCK_IO_ERROR", {"nospace": True, "action": "stop"}), QmpEvent("STOP")), never, _LONG)
    assert isinstance(outcome, HostStopped)
    assert "no space is left" in outcome.how


def exits(daemon: str, times: int, every: float) -> list[Happening]:
    words = {"crio": "crio has exited! Restarting...", "kubelet": "kubelet has exited! Restarting"}[daemon]
    return [ConsoleLine(f"[   30.000000] kiOS: {words}", at=number * every) for number in range(times)]


def test_a_daemon_that_ends_as_soon_as_it_is_started_is_named() -> None:
    outcome = wait(fed(*exits("crio", 1, 1), *exits("kubelet", 4, 2)), never, _LONG)
    assert isinstance(outcome, Contradicted)
    assert outcome.by == (
        "kubelet ended 4 times within 6 s, each time soon after init had started it, as with a configuration or an argument "
        "that it refuses, or a pod that it crashes at"
    )


def test_daemons_that_are_restarted_now_and_then_end_nothing() -> None:
    feed = fed(*exits("kubelet", 9, 30), *exits("crio", 3, 1))
    assert isinstance(wait(feed, never, _NOW), TooLate)


def test_qemus_end_is_told_with_status_and_words() -> None:
    assert wait(fed(QemuExit(-11, "qemu: boom")), never, _LONG) == QemuDied(-11, "qemu: boom")


_NODE = Awaited("node", "default", "Always", frozenset({"parted"}))


def failed(container: str = "parted", restarts: int = 0) -> ContainerState:
    return ContainerState("node", container, "terminated", "Error", exit_code=1, restarts=restarts)


@pytest.mark.parametrize(
    ("state", "by"),
    [
        (failed(restarts=1), "container parted of pod node ended with status 1: Error (2 times by now)"),
        (failed("main", restarts=2), "container main of pod node ended with status 1: Error (3 times by now)"),
        (ContainerState("node", "parted", "waiting", "ErrImageNeverPull: is absent"), "parted of pod node cannot run: ErrIm"),
        (ContainerState("node", "parted", "waiting", "CrashLoopBackOff"), "cannot run: CrashLoopBackOff"),
        (ContainerState("node", "parted", "waiting", "ErrImagePull: no such host"), "cannot run: ErrImagePull"),
    ],
)
def test_a_failure_that_is_final_ends_the_wait(state: ContainerState, by: str) -> None:
    outcome = wait(fed(state), never, _LONG, pods=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert by in outcome.by
    assert outcome.container == ("default", "node", state.container)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff: Back-off: ErrImagePull"])
def test_a_pull_before_there_is_a_network_is_tried_again(reason: str) -> None:
    early = ContainerState(
        "node", "parted", "waiting", f"{reason}: dial tcp 198.51.100.1:5000: connect: network is unreachable"
    )
    assert wait(fed(early), never, _NOW, pods=[_NODE]) == TooLate(0)


def test_the_console_pods_word_of_two_failures_is_enough() -> None:
    told = ContainerState("node", "parted", "terminated", "no such disk", exit_code=1)
    assert wait(fed(told), never, _NOW, pods=[_NODE]) == TooLate(0)
    assert isinstance(wait(fed(told, told), never, _NOW, pods=[_NODE]), Contradicted)


@pytest.mark.parametrize("order", [1, -1], ids=["console first", "kubelet first"])
def test_one_failure_that_both_tell_of_is_one(order: int) -> None:
    told = ContainerState("node", "parted", "terminated", "no such disk", exit_code=1)
    both: list[Happening] = [told, failed()]
    assert wait(fed(*both[::order]), never, _NOW, pods=[_NODE]) == TooLate(0)


def test_the_firmwares_words_on_a_node_that_was_restored_are_somebody_elses() -> None:
    words = ConsoleLine("BdsDxe: No bootable option or device was found.")
    assert isinstance(wait(fed(words), never, _LONG), GuestDied)
    assert wait(fed(Restored(("kernel",)), words), never, _NOW) == TooLate(0)


def test_a_container_of_a_pod_that_restarts_nothing_has_one_try() -> None:
    assert isinstance(wait(fed(failed()), never, _LONG, pods=[Awaited("node", "default", "Never")]), Contradicted)


@pytest.mark.parametrize("end", ["running", "terminated"])
def test_a_failure_that_was_recovered_from_ends_nothing(end: str) -> None:
    well = ContainerState("node", "parted", end, exit_code=0 if end == "terminated" else None)
    judge = Judge(fed(failed(), well, failed()))
    assert judge.wait(never, _NOW, pods=[_NODE]) == TooLate(0)


@pytest.mark.parametrize(
    ("states", "fates"),
    [
        ([failed()], ["container parted of pod node ended with status 1: Error"]),
        ([failed(restarts=1), ContainerState("node", "parted", "running")], []),
        ([ContainerState("node", "main", "terminated", "Error", exit_code=143, restarts=0)], []),
        ([ContainerState("other", "main", "terminated", "Error", exit_code=1, restarts=0)], []),
        ([], []),
    ],
)
def test_what_had_failed_by_the_nodes_end_is_known(states: list[ContainerState], fates: list[str]) -> None:
    judge = Judge(fed(*states))
    judge.verdict()
    assert judge.failed([_NODE]) == [(fate, ("default", "node", "parted")) for fate in fates]


def test_an_old_failure_does_not_meet_a_new_wait() -> None:
    feed = fed(failed(restarts=1))
    judge = Judge(feed)
    assert isinstance(judge.wait(never, _LONG, pods=[_NODE]), Contradicted)
    feed.publish(ContainerState("node", "parted", "terminated", exit_code=0))
    feed.publish(ConsoleLine("login:"))
    assert judge.wait(says("login"), _NOW, pods=[_NODE]) == Met(ConsoleLine("login:", at=feed.since(2)[0].at))


def test_a_failed_container_of_another_pod_ends_nothing() -> None:
    others = [ContainerState("other", "main", "waiting", "CrashLoopBackOff"), failed(restarts=9)]
    assert wait(fed(*others), never, _NOW, pods=[Awaited("node", "kube-system", "Always")]) == TooLate(0)
    assert wait(fed(*others), never, _NOW) == TooLate(0)


def test_a_pod_that_the_kubelet_rejects_ends_the_wait() -> None:
    rejected = PodState("node", "Failed", "NodeAffinity: Pod was rejected")
    outcome = wait(fed(rejected), never, _LONG, pods=[_NODE])
    assert outcome == Contradicted("the kubelet rejected pod node: NodeAffinity: Pod was rejected")
    assert wait(fed(PodState("node", "Running")), never, _NOW, pods=[_NODE]) == TooLate(0)


@pytest.mark.parametrize(
    "state",
    [
        failed(),
        failed("main", restarts=1),
        ContainerState("node", "parted", "terminated", "Completed", exit_code=0),
        ContainerState("node", "parted", "waiting", "PodInitializing"),
        ContainerState("node", "parted", "waiting"),
        ContainerState("node", "parted", "running"),
    ],
)
def test_a_container_on_its_way_ends_nothing(state: ContainerState) -> None:
    assert wait(fed(state), never, _NOW, pods=[_NODE]) == TooLate(0)


def test_what_was_nearest_is_told() -> None:
    judge = Judge(fed(ContainerState("node", "main", "waiting", "ContainerCreating"), ContainerState("x", "y", "waiting", "z")))
    judge.wait(never, _NOW, pods=[_NODE])
    assert judge.nearest([_NODE]) == ["container main of pod node is waiting: ContainerCreating"]


@pytest.mark.parametrize(
    ("states", "is_unbegun"),
    [
        ([("main", "waiting", "ContainerCreating")], True),
        ([("first", "waiting", "PodInitializing"), ("main", "waiting", "PodInitializing")], True),
        ([("first", "running", ""), ("main", "waiting", "PodInitializing")], False),
        ([("first", "terminated", "Completed"), ("main", "waiting", "PodInitializing")], False),
        ([("main", "waiting", "ErrImagePull: no route")], False),
        ([], False),
    ],
)
def test_a_pod_of_which_no_container_has_begun_is_known(states: list[tuple[str, str, str]], is_unbegun: bool) -> None:
    judge = Judge(fed(*(ContainerState("node", *state) for state in states), ContainerState("x", "y", "waiting", "")))
    judge.wait(never, _NOW, pods=[_NODE])
    assert judge.unbegun([_NODE]) == ([_NODE] if is_unbegun else [])


def test_a_condition_is_asked_beside_what_is_heard() -> None:
    asked = iter([False, False, True])
    assert wait_for(asked, fed()) == Met()
    assert isinstance(wait_for(iter([False, True]), fed(QemuExit(1, ""))), QemuDied)


def wait_for(answers: Iterator[bool], feed: Feed) -> Outcome:
    return Judge(feed).wait(never, _LONG, condition=lambda: next(answers))


def test_a_line_before_the_mark_meets_nothing() -> None:
    feed = fed(ConsoleLine("login:"))
    judge = Judge(feed)
    met = judge.wait(says("login"), _NOW)
    assert isinstance(met, Met)
    assert judge.wait(says("login"), _NOW, since=met.position) == TooLate(0)
    assert isinstance(judge.wait(says("login"), _NOW, since=0), Met)


def test_a_host_that_takes_the_cpu_stretches_the_wait_and_is_at_fault() -> None:
    began = time.monotonic()
    starved = Judge(Feed(), lost=lambda: time.monotonic() - began)
    outcome = starved.wait(never, Patience(within=0.1, silence=30))
    assert time.monotonic() - began == pytest.approx(0.3, abs=0.2)
    assert party(outcome) is Party.HOST
    assert isinstance(error(outcome, "late"), HarnessError)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Contradicted("x"), NodeFailure),
        (GuestDied("x"), NodeFailure),
        (HostStopped("x"), HarnessError),
        (NoSpace("/tmp/run"), HarnessError),
        (QemuDied(1, "x"), HarnessError),
        (Stalled(90), NodeFailure),
        (Stalled(90, 80), HarnessError),
        (TooLate(90, 10), NodeFailure),
        (TooLate(90, 80), HarnessError),
    ],
)
def test_each_outcome_has_its_party(outcome: Outcome, kind: type[Exception]) -> None:
    assert isinstance(error(outcome, "words"), kind)


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
        (TooLate(180, 10), "it did not happen within 180 s"),
        (TooLate(90, 80), "it did not happen within 90 s, and the host was too busy: QEMU waited 80 s more for a CPU"),
        (HostStopped("somebody sent QEMU a signal"), "the host ended it: somebody sent QEMU a signal"),
    ],
)
def test_an_explanation_names_what_why_how_far_and_the_last_words(outcome: Outcome, cause: str) -> None:
    lines = [ConsoleLine(f"line {number}") for number in range(12)]
    feed = fed(*lines, ConsoleLine("  "), QmpEvent("RESUME"))
    words = explain(outcome, "milestone crio", feed.last_lines(8), ["firmware", "kernel"])
    assert words.splitlines() == [
        f"milestone crio: {cause}",
        "reached: firmware, kernel",
        "last words on the console:",
        *(f"  | line {number}" for number in range(4, 12)),
    ]


def test_an_explanation_says_when_nothing_was_reached() -> None:
    assert "reached: nothing, not even the firmware" in explain(TooLate(1), "milestone firmware", [], [])


def test_memory_without_space_under_it_is_named() -> None:
    words = cause(QemuDied(-signal.SIGBUS, "qemu: a warning\n"))
    assert words == "QEMU died of SIGBUS: the file of the guest's memory has no space, or was cut off: qemu: a warning"
    assert party(QemuDied(-signal.SIGBUS, "")) is Party.HOST


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
    assert judge.wait(LineMatching("^the goal$"), _NOW, since=0) == Met(ConsoleLine("the goal", at=1.0), 2)
    assert judge.wait(LineMatching("^the goal$"), _NOW, since=2) == Met(ConsoleLine("the goal", at=1.0), 4)
    assert judge.wait(LineMatching("^the goal$"), _NOW, since=4) == TooLate(0)


@pytest.mark.parametrize("behind", ["quiet", "the goal"])
def test_a_death_is_found_among_lines_that_came_at_once(behind: str) -> None:
    outcome = Judge(at_once("quiet", _PANIC, behind)).wait(LineMatching("^the goal$"), _LONG)
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

    assert judge.wait(says("login"), _LONG, condition=condition) == Met(ConsoleLine("login:", at=1.0), 1)
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
    outcome = Judge(at_once("the goal", _PANIC)).wait(LineMatching("^the goal$"), _LONG)
    assert outcome == Met(ConsoleLine("the goal", at=1.0), 1)
