"""What a boot waits for, with a program in QEMU's place that says what QEMU says."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest

from harness import space
from harness.errors import HarnessError, NodeFailure
from harness.guest import kubelet
from harness.guest.credentials import Credentials
from harness.lab.boot import Boot
from harness.lab.expectation import Expectation, milestones_of
from harness.lab.frozen import Frozen
from harness.manifests.pods import StaticPod
from harness.serial.result import Result
from harness.verdict.feed import ConsoleLine, ConsolePodOpen, ContainerState, Happening, KubeletRefusal, PodState, QmpEvent
from harness.verdict.lost_time import Moment
from harness.verdict.standstill import Standstill
from harness.verdict.timeline import API, FIRMWARE, INIT, KERNEL, SHELL, Milestone, Passed
from harness.vm import qmp
from harness.vm.machine import Channels

# Greets, answers every command, and forwards the two ports that a node has to have.
_QEMU = r"""
import json, socket, sys
qmp = socket.socket(fileno=int(sys.argv[1]))
def say(message): qmp.sendall(json.dumps(message).encode() + b"\n")
# Takes connections and never answers, as QEMU does for a guest that is off the network.
kubelet = socket.create_server(("127.0.0.1", 0))
say({"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}})
forward = "  TCP[HOST_FORWARD]  9  127.0.0.1  %d  10.0.2.15  %d  0  0\r\n"
asked = ""
while received := qmp.recv(65536).decode():
    asked += received
    try:
        command = json.loads(asked)  # QEMU's client ends no command with a line end.
    except ValueError:
        continue
    asked = ""
    if command["execute"] == "query-status":
        say({"return": {"running": False, "status": "internal-error"}, "id": command["id"]})
        continue
    table = command["execute"] == "human-monitor-command"
    reply = {"return": forward % (kubelet.getsockname()[1], 10250) + forward % (9, 22) if table else {}}
    say({**reply, "id": command["id"]} if "id" in command else reply)
    if command["execute"] == "stop":
        # As where KVM cannot go on: it is told in these words and by this event alone.
        print("KVM internal error. Suberror: 1\nextra data[0]: 0x0", file=sys.stderr, flush=True)
        say({"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 0}})
    if command["execute"] == "quit":
        data = {"guest": False, "reason": "host-qmp-quit"}
        say({"event": "SHUTDOWN", "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})
        break
"""
_KERNEL_LINE = ConsoleLine("[    0.000000] Linux version 6.12.0")
_INIT_LINE = ConsoleLine("[    2.1] Run /init as init process")
_CONSOLE_OPEN = ConsolePodOpen("ttyS1")


def pod(name: str) -> StaticPod:
    containers = [{"name": "main", "image": "i"}]
    return StaticPod(f"{name}.yaml", {"metadata": {"name": name}, "spec": {"containers": containers}})


def runs(name: str) -> ContainerState:
    return ContainerState(name, "main", "running")


def booted(folder: Path, reachable: Callable[[], bool], kubelet_port: int = 10250, **more: Any) -> Boot:
    """A boot of a node with one pod `web`."""

    def argv(channels: Channels) -> list[str]:
        return [sys.executable, "-c", _QEMU, str(channels.qmp)]

    expected = Expectation([pod("web")], pod("kios-e2e"), 1.0, reachable, "52:54:00:6b:69:6f", kubelet_port)
    return Boot(argv, folder, Credentials.make(folder), expected, lambda: None, ExitStack(), **more)


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """A boot of a node whose pod has never been heard of."""
    with closing(booted(tmp_path, lambda: False)) as running:
        yield running


@pytest.mark.parametrize(
    ("goal", "heard"),
    [
        pytest.param(KERNEL, _KERNEL_LINE, id="itself"),
        pytest.param(FIRMWARE, _INIT_LINE, id="one behind it"),
        pytest.param(KERNEL, _CONSOLE_OPEN, id="the console, which is behind all of them"),
        pytest.param(INIT, runs("web"), id="a pod's container, which is behind all of them"),
    ],
)
def test_a_milestone_of_the_way_up_is_shown_by_all_behind_it(boot: Boot, goal: Milestone, heard: Happening) -> None:
    boot.feed.publish(heard)
    assert boot.wait(goal, within=0) is heard


@pytest.mark.parametrize(
    ("goal", "heard"),
    [
        pytest.param(lambda _: INIT, _KERNEL_LINE, id="one before it"),
        pytest.param(lambda _: KERNEL, runs("other"), id="a pod that is not the node's"),
        pytest.param(lambda _: milestones_of(pod("web"))[0], _CONSOLE_OPEN, id="a container is shown by itself alone"),
        pytest.param(lambda _: SHELL, _INIT_LINE, id="the shell is shown by itself alone"),
    ],
)
def test_nothing_else_shows_it(boot: Boot, goal: Callable[[Boot], Milestone], heard: Happening) -> None:
    boot.feed.publish(heard)
    with pytest.raises(NodeFailure, match="did not happen within 0 s"):
        boot.wait(goal(boot), within=0)


def test_what_the_host_took_from_an_earlier_wait_is_given_back(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget of a milestone runs from the node's start, and so does what the host has kept from it."""
    monkeypatch.setattr(boot.process, "waited_for_cpu", lambda: 100.0)
    with pytest.raises(HarnessError, match=r"milestone init: it did not happen within 0 s, and the host was too busy"):
        boot.wait(replace(INIT, within=0.01))


def test_while_the_harness_is_stopped_no_time_of_the_nodes_passes(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standstill, "seconds", lambda _: 100.0)
    with pytest.raises(HarnessError, match=r"milestone init: .* QEMU waited 0 s more for a CPU, or the run was stopped"):
        boot.wait(replace(INIT, within=0.01))


def test_the_kubelet_is_asked_at_the_port_that_its_configuration_names(tmp_path: Path) -> None:
    with closing(booted(tmp_path, lambda: False, kubelet_port=22)) as running:
        assert running.kubelet.port == running.ssh_port == 9


def test_a_kubelet_that_refuses_ends_the_waits_that_it_alone_can_meet(boot: Boot) -> None:
    boot.feed.publish(KubeletRefusal("the kubelet refuses"))
    for goal in (API, milestones_of(pod("web"))[0]):
        with pytest.raises(NodeFailure, match="it cannot happen any more: the kubelet refuses"):
            boot.wait(goal, within=30)
    # An init container's end, the console pod tells of as well.
    with pytest.raises(NodeFailure, match="did not happen within 0 s"):
        boot.wait(INIT, within=0)
    done = StaticPod("job.yaml", {"metadata": {"name": "job"}, "spec": {"initContainers": [{"name": "first", "image": "i"}]}})
    boot.expect(done)
    with pytest.raises(NodeFailure, match="did not happen within 0 s"):
        boot.wait(milestones_of(done)[0], within=0)
    boot.feed.publish(ContainerState("job", "first", "terminated", exit_code=0))
    assert isinstance(boot.wait(milestones_of(done)[0], within=0), ContainerState)


def test_a_kubelet_that_does_not_answer_holds_up_no_end(tmp_path: Path) -> None:
    asked = threading.Event()

    def reachable() -> bool:
        asked.set()
        return True

    boot = booted(tmp_path, reachable)
    assert asked.wait(10)
    began = time.monotonic()
    boot.close()
    assert time.monotonic() - began < kubelet._ANSWER_SECONDS / 2


def test_what_qemu_said_at_its_end_is_heard_before_that_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received = qmp.Qmp._note_received

    def note_late(session: qmp.Qmp, message: Any) -> None:
        if "event" in message:
            time.sleep(0.5)
        received(session, message)

    monkeypatch.setattr(qmp.Qmp, "_note_received", note_late)
    with closing(booted(tmp_path, lambda: False)) as boot:
        boot.qmp.execute("quit")
        with pytest.raises(HarnessError, match="somebody told QEMU to quit"):
            boot.wait(INIT, within=5)


def test_a_kvm_that_dies_is_told_at_once_in_its_own_words(boot: Boot) -> None:
    boot.qmp.execute("stop")
    began = time.monotonic()
    with pytest.raises(HarnessError) as died:
        boot.wait(INIT, within=30)
    assert time.monotonic() - began < 5
    assert str(died.value).splitlines()[0] == (
        "milestone init: the host ended it: its CPUs were stopped: an internal error of the accelerator: "
        "KVM internal error. Suberror: 1"
    )


def test_a_run_that_ended_by_itself_has_failed_unless_the_guest_ended_it(boot: Boot) -> None:
    boot.check_end()
    assert boot.why_void == ""
    boot.process.kill()
    assert boot.why_void == "QEMU died with status -9 (SIGKILL): without a word"
    with pytest.raises(HarnessError, match="QEMU died with status -9"):
        boot.check_end()
    boot.feed.publish(QmpEvent("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}))
    boot.check_end()


def test_the_harnesss_own_end_of_a_run_is_none_of_the_hosts(boot: Boot) -> None:
    boot.close()
    assert boot.why_void == ""


@pytest.mark.parametrize(
    ("condition", "seen", "words"),
    [
        pytest.param(str, lambda: "its log is empty", "; its log is empty", id="what was seen"),
        pytest.param(list, str, "; the last answer was []", id="the last answer"),
        pytest.param(lambda: None, str, "", id="nothing"),
    ],
)
def test_a_condition_that_did_not_hold_is_told_with_what_was_seen(
    boot: Boot, condition: Callable[[], object], seen: Callable[[], str], words: str
) -> None:
    with pytest.raises(NodeFailure) as failed:
        boot.until(condition, "a line", within=0, seen=seen)
    assert str(failed.value).splitlines()[0] == f"a line: it did not happen within 0 s{words}"


def test_the_harnesss_own_pod_is_not_looked_for_where_nothing_is_heard(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(boot._refusals, "look_unasked", lambda pods: looked.extend(each.name for each in pods))
    boot._look_for_refusals()
    assert looked == [], "nobody answers who could look"
    monkeypatch.setattr(type(boot.agent), "answers", True)
    boot._look_for_refusals()
    assert looked == ["web"]


def test_a_clone_that_had_been_on_the_network_is_looked_at_at_once(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(boot._refusals, "look", lambda pods: looked.extend(each.name for each in pods))
    monkeypatch.setattr(type(boot.agent), "answers", True)
    monkeypatch.setattr(boot, "_frozen", Frozen(Path("state"), (), Path("dhcp")))
    boot._look_for_refusals()
    assert looked == []
    monkeypatch.setattr(boot, "_frozen", Frozen(Path("state"), (Passed(API.name, 1.0),), Path("dhcp")))
    boot._look_for_refusals()
    assert looked == ["web"]


def test_no_verdict_on_a_node_whose_disk_had_no_space(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    boot.feed.publish(ConsoleLine("[    9.000000] Kernel panic - not syncing: write error"))
    monkeypatch.setattr(space, "is_full", lambda folder: folder == boot.artifacts)
    with pytest.raises(HarnessError, match=f"milestone init: no space is left in {boot.artifacts}"):
        boot.wait(INIT, within=5)
    assert boot.why_void == f"no space is left in {boot.artifacts}"


def test_a_cable_that_the_test_took_out_is_told_until_it_is_back(boot: Boot) -> None:
    boot.feed.publish(_INIT_LINE)
    boot.wire.unplug()
    with pytest.raises(NodeFailure, match="eth0 has no carrier: the test has unplugged its cable"):
        boot.wait(SHELL, within=0)
    boot.wire.plug()
    with pytest.raises(NodeFailure, match="eth0 never asked for a lease"):
        boot.wait(SHELL, within=0)


def test_a_pod_of_which_nothing_is_heard_has_not_begun(boot: Boot) -> None:
    assert [each.name for each in boot._waits._unbegun()] == ["web"]
    boot.feed.publish(ContainerState("web", "main", "waiting", "ContainerCreating"))
    boot.feed.publish(PodState("web", "Pending"))
    boot.check("the node's pods")
    assert [each.name for each in boot._waits._unbegun()] == ["web"]
    boot.feed.publish(runs("web"))
    boot.check("the node's pods")
    assert boot._waits._unbegun() == []


def test_a_pod_that_came_later_shows_the_way_up_too(boot: Boot) -> None:
    boot.expect(pod("late"))
    heard = runs("late")
    boot.feed.publish(heard)
    assert boot.wait(KERNEL, within=0) is heard


def test_a_budget_runs_from_the_start_of_the_node_or_from_when_a_pod_was_added(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot._waits, "_begun", Moment(boot.started - 1000))
    with pytest.raises(NodeFailure, match="milestone init: it did not happen within 120 s"):
        boot.wait(INIT)
    boot.expect(pod("late"))
    began = time.monotonic()
    with pytest.raises(NodeFailure, match="milestone late/main"):
        boot.wait(replace(milestones_of(pod("late"))[0], within=0.4))
    assert time.monotonic() - began >= 0.4


def test_what_the_host_took_in_the_waits_before_is_no_fault_of_the_nodes(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot._waits, "_begun", Moment(boot.started - 1000))
    monkeypatch.setattr(boot._waits._judge, "_lost", lambda: 900.0)
    with pytest.raises(HarnessError, match="did not happen within 120 s, and the host was too busy: QEMU waited 240 s more"):
        boot.wait(INIT)


def test_without_a_second_port_commands_go_through_the_console_and_a_line_says_so(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot.shell, "wait_ready", lambda within: None)
    told = {"clock": f"{time.time() * 1e9:.0f}".encode()}
    monkeypatch.setattr(boot.shell, "run", lambda command, _: Result(0, told.get(command, b"by the console")))
    boot.feed.publish(ConsolePodOpen("ttyS0"))
    with pytest.warns(UserWarning, match="there is no second serial port: commands go through the console"):
        assert boot.run("true").text == "by the console"


def test_a_run_knows_the_containers_of_its_manifests(boot: Boot) -> None:
    boot.expect(pod("late"))
    assert [boot.expects(*name) for name in (("web", "main"), ("late", "main"), ("late", "other"), ("other", "main"))] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("has_ended", [True, False])
def test_the_logs_of_its_pods_come_from_its_disk_once_it_has_ended(tmp_path: Path, has_ended: bool) -> None:
    run = PurePosixPath("/meta/log/pods/default_web_1/main/0.log")
    below = {PurePosixPath(*run.parts[:depth]): [run.parts[depth]] for depth in range(4, len(run.parts))}
    line = b"2026-01-01T00:00:00.1Z stdout F said\n"
    disk: Any = SimpleNamespace(folder=below.__getitem__, file_if_there=lambda _: line)
    with closing(booted(tmp_path, lambda: False, disk=lambda: nullcontext(disk))) as running:
        if has_ended:
            running.process.kill()
        running.keep_logs()
    kept = tmp_path / "pods/default_web/main.log"
    assert (kept.read_text() if kept.exists() else "") == ("said\n" if has_ended else "")
