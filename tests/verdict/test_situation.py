"""How a node stands: what ends it, what is final of its pods, and what it recovers from."""

import re
import time
from dataclasses import replace

import pytest

from harness.verdict.feed import (
    ConsoleLine,
    ContainerState,
    Happening,
    KubeletRefusal,
    PodState,
    QemuContinued,
    QemuExit,
    QemuStopped,
    QmpEvent,
    Restored,
)
from harness.verdict.judge import Judge, wait
from harness.verdict.outcome import (
    Contradicted,
    GuestDied,
    HostStopped,
    Met,
    Outcome,
    QemuDied,
    TooLate,
)
from harness.verdict.situation import Awaited, KubeletsWord
from tests.verdict.heard import LONG, NOW, PANIC, fed, never, says


@pytest.mark.parametrize(
    "text",
    [
        PANIC,
        "[    3.100000] Oops: 0000 [#1] PREEMPT SMP",
        "[    2.200000] kiOS: cannot mount the data partition",
        "UEFI Interactive Shell v2.2",
        "Shell> ",
        "BdsDxe: No bootable option or device was found.",
        'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT): Not Found',
    ],
)
def test_a_fatal_line_is_the_guests_death_in_its_own_words(text: str) -> None:
    outcome = wait(fed(ConsoleLine(text)), never, LONG)
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
    assert wait(fed(ConsoleLine(text)), never, NOW) == TooLate(0)


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
    outcome = wait(fed(event), never, LONG)
    assert isinstance(outcome, GuestDied | HostStopped)
    assert isinstance(outcome, kind)
    assert how in outcome.how


def test_a_guest_that_died_is_dead_though_its_machine_is_heard_of_as_stopped() -> None:
    judge = Judge(fed(QmpEvent("STOP"), ConsoleLine(PANIC), QmpEvent("RESUME")))
    assert isinstance(judge.wait(never, NOW), HostStopped)
    assert isinstance(judge.wait(never, NOW), GuestDied)


def test_only_a_machine_that_stands_still_can_be_asked_why() -> None:
    full = QmpEvent("BLOCK_IO_ERROR", {"nospace": True})
    outcomes = [wait(fed(*events), never, LONG) for events in ([QmpEvent("STOP")], [full, QmpEvent("STOP")], [QemuStopped()])]
    assert [isinstance(each, HostStopped) and each.asks_why for each in outcomes] == [True, False, False]


@pytest.mark.parametrize("event", [QmpEvent("RESET", {"guest": False}), QmpEvent("RESUME"), QmpEvent("POWERDOWN")])
def test_other_events_end_nothing(event: QmpEvent) -> None:
    assert wait(fed(event), never, NOW) == TooLate(0)


def test_a_qemu_that_is_stopped_is_the_hosts_and_one_that_goes_on_is_none() -> None:
    outcome = wait(fed(QemuStopped()), never, LONG)
    assert isinstance(outcome, HostStopped)
    assert "by a signal" in outcome.how
    judge = Judge(fed(QemuStopped(), QemuContinued()))
    assert isinstance(judge.wait(never, NOW), HostStopped)
    assert judge.wait(never, NOW) == TooLate(0)


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
    first = judge.wait(never, NOW)
    assert isinstance(first, HostStopped)
    assert judge.wait(never, NOW) == first


def test_a_machine_that_goes_on_was_not_ended() -> None:
    assert wait(fed(QmpEvent("STOP"), QmpEvent("RESUME")), never, NOW, start=1) == TooLate(0)
    judge = Judge(fed(QmpEvent("STOP"), QmpEvent("RESUME")))
    assert isinstance(judge.wait(never, NOW), HostStopped)
    assert judge.wait(never, NOW) == TooLate(0)


def test_a_full_disk_of_the_host_is_told_as_that() -> None:
    outcome = wait(fed(QmpEvent("BLOCK_IO_ERROR", {"nospace": True, "action": "stop"}), QmpEvent("STOP")), never, LONG)
    assert isinstance(outcome, HostStopped)
    assert "no space is left" in outcome.how


def exits(daemon: str, times: int, every: float) -> list[Happening]:
    words = {"crio": "crio has exited! Restarting...", "kubelet": "kubelet has exited! Restarting"}[daemon]
    return [ConsoleLine(f"[   {30 + number * every:f}] kiOS: {words}", at=number * every) for number in range(times)]


def test_a_daemon_that_ends_as_soon_as_it_is_started_is_named() -> None:
    outcome = wait(fed(*exits("crio", 1, 1), *exits("kubelet", 4, 2)), never, LONG)
    assert isinstance(outcome, Contradicted)
    assert outcome.by == (
        "kubelet ended 4 times within 6 s, each time soon after init had started it, as with a configuration or an argument "
        "that it refuses, or a pod that it crashes at"
    )


def test_an_end_that_two_consoles_on_one_port_tell_of_is_one() -> None:
    twice = [line for line in exits("kubelet", 3, 2) for _ in range(2)]
    assert wait(fed(*twice), never, NOW) == TooLate(0)
    assert isinstance(wait(fed(*twice, exits("kubelet", 4, 2)[-1]), never, NOW), Contradicted)


def test_daemons_that_are_restarted_now_and_then_end_nothing() -> None:
    feed = fed(*exits("kubelet", 9, 30), *exits("crio", 3, 1))
    assert isinstance(wait(feed, never, NOW), TooLate)


def test_qemus_end_is_told_with_status_and_words() -> None:
    assert wait(fed(QemuExit(-11, "qemu: boom")), never, LONG) == QemuDied(-11, "qemu: boom")


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
    outcome = wait(fed(state), never, LONG, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert by in outcome.by
    assert outcome.container == ("default", "node", state.container)


@pytest.mark.parametrize(
    "reason",
    [
        "CreateContainerConfigError: container has runAsNonRoot and image will run as root",
        "CreateContainerError: container create failed: executable file `nothing` not found in $PATH",
        "RunContainerError: failed to start container",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError: Exec lifecycle hook ([false]) for Container main failed",
        "InvalidImageName: couldn't parse image name",
        "ImageInspectError: no such store",
        "RegistryUnavailable: image pull failed",
        "SignatureValidationFailed: A signature was required, but no signature exists",
    ],
)
def test_whatever_hinders_a_container_ends_the_wait(reason: str) -> None:
    outcome = wait(fed(ContainerState("node", "main", "waiting", reason)), never, LONG, needed=[_NODE])
    assert outcome == Contradicted(f"container main of pod node cannot run: {reason}", ("default", "node", "main"))


@pytest.mark.parametrize(
    ("last_end", "words"),
    [
        ((137, "OOMKilled"), "status 137 (SIGKILL): OOMKilled"),
        ((139, "Error"), "status 139 (SIGSEGV): Error"),
        ((0, "Completed"), "status 0: Completed"),
    ],
)
def test_a_crash_loop_is_told_with_how_the_last_run_ended(last_end: tuple[int, str], words: str) -> None:
    crashing = ContainerState("node", "main", "waiting", "CrashLoopBackOff: back-off 10s", restarts=2, last_end=last_end)
    outcome = wait(fed(crashing), never, LONG, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert (
        outcome.by == f"container main of pod node cannot run: CrashLoopBackOff: back-off 10s; its last run ended with {words}"
    )


@pytest.mark.parametrize("order", [1, -1], ids=["console first", "kubelet first"])
def test_why_the_kubelet_says_that_a_container_ended_stays_beside_its_last_words(order: int) -> None:
    spoken = ContainerState("node", "parted", "terminated", "reading the table", exit_code=137)
    killed = ContainerState("node", "parted", "terminated", "OOMKilled", exit_code=137, restarts=0)
    both: list[Happening] = [spoken, killed]
    outcome = wait(fed(*both[::order], replace(killed, restarts=1)), never, NOW, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert outcome.by == (
        "container parted of pod node ended with status 137 (SIGKILL): OOMKilled: reading the table (2 times by now)"
    )


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff: Back-off: ErrImagePull"])
def test_a_pull_before_there_is_a_network_is_tried_again(reason: str) -> None:
    early = ContainerState(
        "node", "parted", "waiting", f"{reason}: dial tcp 198.51.100.1:5000: connect: network is unreachable"
    )
    assert wait(fed(early), never, NOW, needed=[_NODE]) == TooLate(0)


@pytest.mark.parametrize(
    "reason",
    [
        "CreateContainerError: context deadline exceeded",
        "CreateContainerError: Kubelet may be retrying requests that are timing out in CRI-O due to system load: name is taken",
        "RunContainerError: rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        'CreateContainerError: rpc error: code = Unavailable desc = connection error: desc = "dial unix: no such file"',
        "ImageInspectError: rpc error: code = Unavailable desc = error reading from server: EOF",
    ],
)
def test_what_a_busy_host_or_a_restart_of_crio_does_is_passing(reason: str) -> None:
    slow = ContainerState("node", "main", "waiting", reason)
    assert wait(fed(slow), never, NOW, needed=[_NODE]) == TooLate(0)
    judge = Judge(fed(slow))
    judge.verdict()
    assert judge.nearest([_NODE]) == [f"container main of pod node is waiting: {reason}"]


def test_words_that_both_tell_are_told_once() -> None:
    spoken = ContainerState("node", "parted", "terminated", "no such disk", exit_code=1)
    both = [replace(spoken, reason="Error: no such disk", restarts=number) for number in range(2)]
    outcome = wait(fed(spoken, *both), never, NOW, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert outcome.by == "container parted of pod node ended with status 1: Error: no such disk (2 times by now)"


def test_a_back_off_that_does_not_say_why_is_of_the_pull_before_it() -> None:
    pulls, back_off = "ErrImagePull: connect: network is unreachable", 'ImagePullBackOff: Back-off pulling image "a:1"'
    states = [ContainerState("node", "parted", "waiting", reason) for reason in (pulls, back_off)]
    assert wait(fed(*states), never, NOW, needed=[_NODE]) == TooLate(0)
    judge = Judge(fed(*states))
    judge.verdict()
    assert judge.nearest([_NODE]) == [f"container parted of pod node is waiting: {back_off}: {pulls}"]
    outcome = wait(fed(states[1]), never, NOW, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert outcome.by.endswith(back_off)


def test_the_words_of_an_end_stay_where_the_kubelet_has_none_for_the_next() -> None:
    spoken = ContainerState("node", "parted", "terminated", "parted: no such disk", exit_code=1)
    waiting = ContainerState("node", "parted", "waiting", "PodInitializing", restarts=1)
    outcome = wait(fed(spoken, waiting, failed(restarts=1)), never, LONG, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert outcome.by == "container parted of pod node ended with status 1: parted: no such disk (2 times by now)"


def test_the_console_pods_word_of_two_failures_is_enough() -> None:
    told = ContainerState("node", "parted", "terminated", "no such disk", exit_code=1)
    assert wait(fed(told), never, NOW, needed=[_NODE]) == TooLate(0)
    assert isinstance(wait(fed(told, told), never, NOW, needed=[_NODE]), Contradicted)


@pytest.mark.parametrize("order", [1, -1], ids=["console first", "kubelet first"])
def test_one_failure_that_both_tell_of_is_one(order: int) -> None:
    told = ContainerState("node", "parted", "terminated", "no such disk", exit_code=1)
    both: list[Happening] = [told, failed()]
    assert wait(fed(*both[::order]), never, NOW, needed=[_NODE]) == TooLate(0)


def test_the_firmwares_words_on_a_node_that_was_restored_are_somebody_elses() -> None:
    words = ConsoleLine("BdsDxe: No bootable option or device was found.")
    assert isinstance(wait(fed(words), never, LONG), GuestDied)
    assert wait(fed(Restored(("kernel",)), words), never, NOW) == TooLate(0)


def test_the_runs_of_earlier_boots_are_no_failures_of_this_one() -> None:
    """The kubelet counts them on, by the logs that a power-off leaves (Kubernetes, calcRestartCountByLogDir)."""
    for earlier, failures in ((1, 2), (4, 2)):
        states = [failed(restarts=earlier + number) for number in range(failures)]
        feed = fed(states[0])
        judge = Judge(feed, earlier_boots=earlier)
        assert judge.wait(never, NOW, needed=[_NODE]) == TooLate(0)
        feed.publish_all(states[1:])
        outcome = judge.wait(never, NOW, needed=[_NODE])
        assert isinstance(outcome, Contradicted)
        assert outcome.by == "container parted of pod node ended with status 1: Error (2 times by now)"


def test_a_container_of_a_pod_that_restarts_nothing_has_one_try() -> None:
    assert isinstance(wait(fed(failed()), never, LONG, needed=[Awaited("node", "default", "Never")]), Contradicted)


@pytest.mark.parametrize("end", ["running", "terminated"])
def test_a_failure_that_was_recovered_from_ends_nothing(end: str) -> None:
    well = ContainerState("node", "parted", end, exit_code=0 if end == "terminated" else None)
    judge = Judge(fed(failed(), well, failed()))
    assert judge.wait(never, NOW, needed=[_NODE]) == TooLate(0)


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
    assert isinstance(judge.wait(never, LONG, needed=[_NODE]), Contradicted)
    feed.publish(ContainerState("node", "parted", "terminated", exit_code=0))
    feed.publish(ConsoleLine("login:"))
    assert judge.wait(says("login"), NOW, needed=[_NODE]) == Met(ConsoleLine("login:", at=feed.since(2)[0].at))


def test_a_failed_container_of_another_pod_ends_nothing() -> None:
    others = [ContainerState("other", "main", "waiting", "CrashLoopBackOff"), failed(restarts=9)]
    assert wait(fed(*others), never, NOW, needed=[Awaited("node", "kube-system", "Always")]) == TooLate(0)
    assert wait(fed(*others), never, NOW) == TooLate(0)


def test_a_pod_that_the_kubelet_rejects_ends_the_wait() -> None:
    rejected = PodState("node", "Failed", "NodeAffinity: Pod was rejected")
    outcome = wait(fed(rejected), never, LONG, needed=[_NODE])
    assert outcome == Contradicted("the kubelet rejected pod node: NodeAffinity: Pod was rejected")
    assert wait(fed(PodState("node", "Running")), never, NOW, needed=[_NODE]) == TooLate(0)


@pytest.mark.parametrize(
    ("reason", "begun", "verb"),
    [
        ("Evicted: The node was low on resource: ephemeral-storage. ", True, "evicted"),
        ("Evicted: Container main exceeded its local ephemeral storage limit. ", True, "evicted"),
        ("Evicted: The node had condition: [DiskPressure]. ", False, "rejected"),
        ("UnexpectedAdmissionError: no devices", False, "rejected"),
        ("DeadlineExceeded: Pod was active on the node longer than the specified deadline", True, "ended"),
        ("Preempting: Preempted in order to admit critical pod", True, "ended"),
        ("NodeShutdown: Pod was rejected as the node is shutting down.", False, "rejected"),
    ],
)
def test_a_pod_that_ran_was_not_rejected(reason: str, begun: bool, verb: str) -> None:
    running: list[Happening] = [ContainerState("node", "main", "running")] if begun else []
    outcome = wait(fed(*running, PodState("node", "Failed", reason)), never, LONG, needed=[_NODE])
    assert outcome == Contradicted(f"the kubelet {verb} pod node: {reason}")


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
    assert wait(fed(state), never, NOW, needed=[_NODE]) == TooLate(0)


def test_what_was_nearest_is_told() -> None:
    judge = Judge(fed(ContainerState("node", "main", "waiting", "ContainerCreating"), ContainerState("x", "y", "waiting", "z")))
    judge.wait(never, NOW, needed=[_NODE])
    assert judge.nearest([_NODE]) == ["container main of pod node is waiting: ContainerCreating"]


def test_what_has_to_end_and_runs_yet_is_told() -> None:
    endless, main = (ContainerState("node", name, "running", at=time.monotonic() - 95) for name in ("parted", "main"))
    judge = Judge(fed(endless, main, replace(endless, pod="other")))
    judge.wait(never, NOW, needed=[_NODE])
    words = "container parted of pod node has not ended: it has run for 95 s"
    assert judge.unended([_NODE]) == [(words, ("default", "node", "parted"))]
    ended = Judge(fed(endless, ContainerState("node", "parted", "terminated", "Completed", exit_code=0)))
    ended.wait(never, NOW, needed=[_NODE])
    assert ended.unended([_NODE]) == []


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
    judge.wait(never, NOW, needed=[_NODE])
    assert judge.unbegun([_NODE]) == ([_NODE] if is_unbegun else [])


def test_a_kubelet_that_refuses_ends_what_only_it_can_tell() -> None:
    refused = KubeletRefusal("the kubelet's API refuses the harness")
    assert wait(fed(refused), never, LONG, needed=[_NODE, KubeletsWord()]) == Contradicted(refused.words)
    assert wait(fed(refused), never, NOW, needed=[_NODE]) == TooLate(0)
    judge = Judge(fed(refused, PodState("node", "Running")))
    judge.verdict()
    assert judge.wait(never, NOW, needed=[KubeletsWord()]) == TooLate(0)
