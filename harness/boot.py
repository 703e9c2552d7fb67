"""One run of a node: QEMU from its start to its end, with every channel into it, and the wait on all of them."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import judge
from harness.console import Console
from harness.errors import HarnessError, NodeFailure
from harness.feed import Feed, Happening, QemuExit, QmpEvent
from harness.judge import Met, Patience
from harness.kubelet import Credentials, KubeletApi, KubeletWatch
from harness.machine import Channels
from harness.pods import StaticPod
from harness.process import QemuProcess
from harness.qmp import Qmp
from harness.shell import Result, Shell
from harness.timeline import BOOT, Milestone, Passed, line_matching, passed

_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<port>\d+)")
# Reference TCG, in seconds. The longest silence of a good boot is the kubelet's start, of 10 s.
_SILENCE = 90.0
_SHELL_WITHIN = 180.0
_COMMAND_WITHIN = 60.0
_QMP_WITHIN = 30.0


@dataclass(frozen=True)
class Expectation:
    """What a run is known to bring: its pods, how much slower than the reference the host is, and when it is on the net."""

    pods: Sequence[StaticPod]
    slowness: float
    reachable: Callable[[], bool]

    def milestones(self) -> tuple[Milestone, ...]:
        """The node's own, then those of each pod."""
        return (*BOOT, *(milestone for pod in self.pods for milestone in pod.milestones()))


class Boot:
    """A started QEMU. `feed` is all that is heard of it, `artifacts` the folder of its logs."""

    def __init__(
        self,
        argv: Callable[[Channels], list[str]],
        artifacts: Path,
        credentials: Credentials,
        expectation: Expectation,
    ) -> None:
        """Starts QEMU stopped, connects everything, then lets it run: no byte and no event is lost."""
        artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts = artifacts
        self.feed = Feed()
        self.milestones = expectation.milestones()
        self._expectation = expectation
        self._closing = contextlib.ExitStack()
        try:
            qmp_end, console_end = self._spawn(argv)
            self.console = Console(console_end, self.feed, artifacts / "console.log")
            self._closing.callback(self.console.close)
            self.qmp = Qmp(qmp_end, self.feed, artifacts / "qmp.jsonl")
            self._closing.callback(self.qmp.close)
            self._connect(credentials)
            self.shell = Shell(self.console, self._reason_to_stop)
            self.started = time.monotonic()
            self.qmp.execute("cont")
        except BaseException:
            self.close()
            raise

    def wait(self, goal: Milestone | str | Callable[[Happening], bool], within: float | None = None) -> Happening:
        """Waits for a milestone, a pattern on the console or a predicate, and returns what met it.

        `within` is in seconds on the reference host. Raises NodeFailure as soon as it can no longer happen, HarnessError
        when QEMU itself died.
        """
        __tracebackhide__ = True
        match goal:
            case Milestone(name=name, passed=met, within=budget):
                what = f"milestone {name}"
            case str():
                what, met, budget = f"console line {goal!r}", line_matching(goal), _COMMAND_WITHIN
            case _:
                what, met, budget = getattr(goal, "__doc__", None) or repr(goal), goal, _COMMAND_WITHIN
        patience = self._patience(within if within is not None else budget)
        outcome = judge.wait(self.feed, met, patience, doomed=[pod.name for pod in self._expectation.pods])
        if isinstance(outcome, Met):
            return outcome.happening
        raise self._failure(outcome, what)

    def run(self, command: str, within: float = _COMMAND_WITHIN) -> Result:
        """Runs a command in the console container's shell, once that answers."""
        self.shell.wait_ready(_SHELL_WITHIN * self._expectation.slowness)
        return self.shell.run(command, within * self._expectation.slowness)

    def timeline(self) -> list[Passed]:
        """The milestones passed so far, in seconds from QEMU's start."""
        return passed(self.milestones, self.feed.since(0), self.started)

    def press_power_button(self) -> None:
        """As a short press on the machine's button (ACPI)."""
        self.qmp.execute("system_powerdown")

    def wait_for_power_off(self, within: float) -> None:
        """Waits until the guest has switched the machine off and QEMU has ended well; raises NodeFailure if it does not."""
        patience = Patience(within * self._expectation.slowness, within * self._expectation.slowness)
        outcome = judge.wait(self.feed, _switched_off_by_guest, patience)
        if not isinstance(outcome, Met):
            raise self._failure(outcome, "power-off by the guest")
        outcome = judge.wait(
            self.feed,
            _qemu_ended,
            Patience(_QMP_WITHIN, _QMP_WITHIN),
            start=self.feed.position_of(outcome.happening) + 1,
        )
        if not isinstance(outcome, Met) or not isinstance(outcome.happening, QemuExit) or outcome.happening.status:
            raise self._failure(outcome, "QEMU's end after the power-off")

    def close(self) -> None:
        """Ends QEMU, however it is, and everything that listens to it; writes the timeline. Does nothing the second time."""
        with self._closing.pop_all():
            if hasattr(self, "started"):
                entries = [vars(entry) for entry in self.timeline()]
                (self.artifacts / "timeline.json").write_text(json.dumps(entries, indent=1) + "\n")

    def _spawn(self, argv: Callable[[Channels], list[str]]) -> tuple[socket.socket, socket.socket]:
        qmp_ours, qmp_theirs = socket.socketpair()
        console_ours, console_theirs = socket.socketpair()
        with qmp_theirs, console_theirs:
            channels = Channels(qmp_theirs.fileno(), console_theirs.fileno())
            words = argv(channels)
            (self.artifacts / "argv.json").write_text(json.dumps(words, indent=1) + "\n")
            inherited = [channels.qmp, channels.console]
            self.process = QemuProcess.start(words, inherited, self.artifacts / "qemu.log", self.feed)
        self._closing.callback(self.process.kill)
        return qmp_ours, console_ours

    def _connect(self, credentials: Credentials) -> None:
        self.qmp.connect(_QMP_WITHIN)
        described = str(self.qmp.execute("human-monitor-command", {"command-line": "info usernet"}))
        forward = _FORWARD.search(described)
        if forward is None:
            raise HarnessError(f"QEMU forwards no port to the kubelet; it says: {described.strip()}")
        port = int(forward["port"])
        self.kubelet = KubeletApi(port, credentials)
        self._closing.callback(self.kubelet.close)
        watch = KubeletWatch(KubeletApi(port, credentials), self._expectation.reachable, self.feed)
        self._closing.callback(watch.close)

    def _patience(self, within: float) -> Patience:
        return Patience(within * self._expectation.slowness, _SILENCE * self._expectation.slowness)

    def _reason_to_stop(self) -> str | None:
        """Why no command can be answered any more; None while one can."""
        outcome = judge.wait(self.feed, lambda _: False, Patience(0, _SILENCE))
        return None if isinstance(outcome, judge.TooLate) else self._explain(outcome, "a command in the node's shell")

    def _failure(self, outcome: judge.Outcome, what: str) -> Exception:
        kind = HarnessError if isinstance(outcome, judge.QemuDied) else NodeFailure
        return kind(self._explain(outcome, what))

    def _explain(self, outcome: judge.Outcome, what: str) -> str:
        words = judge.explain(outcome, what, self.feed, [entry.name for entry in self.timeline()])
        return f"{words}\nartifacts: {self.artifacts}"


def _switched_off_by_guest(happening: Happening) -> bool:
    return isinstance(happening, QmpEvent) and happening.name == "SHUTDOWN" and happening.data.get("reason") == "guest-shutdown"


def _qemu_ended(happening: Happening) -> bool:
    return isinstance(happening, QemuExit)
