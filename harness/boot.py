"""One run of a node: QEMU from its start to its end, with every channel into it, and the wait on all of them."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import judge, migration
from harness.console import Console
from harness.errors import HarnessError, NodeFailure
from harness.feed import Feed, Happening, QemuExit, QmpEvent, Restored, ShellAnswer
from harness.judge import Met, Patience
from harness.kubelet import Credentials, KubeletApi, KubeletWatch
from harness.machine import Channels
from harness.pods import StaticPod
from harness.process import QemuProcess
from harness.qmp import Qmp
from harness.shell import Result, Shell
from harness.timeline import BOOT, SHELL, Milestone, Passed, line_matching, passed

_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<port>\d+)")
# Reference TCG, in seconds. The longest silence of a good boot is the kubelet's start, of 10 s.
_SILENCE = 90.0
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


@dataclass(frozen=True)
class Frozen:
    """What a run goes on from instead of the firmware: a machine's state, and the milestones that it had passed."""

    state: Path
    milestones: tuple[Passed, ...]


class Boot:
    """A started QEMU. `feed` is all that is heard of it, `artifacts` the folder of its logs."""

    def __init__(
        self,
        argv: Callable[[Channels], list[str]],
        artifacts: Path,
        credentials: Credentials,
        expectation: Expectation,
        admitted: contextlib.ExitStack,
        frozen: Frozen | None = None,
    ) -> None:
        """Starts QEMU stopped, connects everything, then lets it run: no byte and no event is lost.

        `admitted` is left when QEMU has ended.
        """
        artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts = artifacts
        self.feed = Feed()
        self.milestones = expectation.milestones()
        self._expectation = expectation
        self._frozen = frozen
        self._closing = admitted
        self._looked_at = 0
        self.started = time.monotonic()
        try:
            qmp_end, console_end = self._spawn(argv)
            self.console = Console(console_end, self.feed, artifacts / "console.log")
            self._closing.callback(self.console.close)
            self.qmp = Qmp(qmp_end, self.feed, artifacts / "qmp.jsonl")
            self._closing.callback(self.qmp.close)
            port = self._connect()
            self.kubelet = KubeletApi(port, credentials)
            self._closing.callback(self.kubelet.close)
            self.shell = Shell(self.console, self._reason_to_stop)
            if frozen:
                self._thaw(frozen)
            self.qmp.execute("cont")
            self._watch = KubeletWatch(KubeletApi(port, credentials), expectation.reachable, self.feed)
            self._closing.callback(self._watch.close)
            if frozen:
                self._set_clock()
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
                what, met = f"milestone {name}", _passed_here_or_before(name, met)
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
        self.shell.wait_ready(SHELL.within * self._expectation.slowness)
        self.feed.publish(ShellAnswer())
        return self.shell.run(command, within * self._expectation.slowness)

    def timeline(self) -> list[Passed]:
        """The milestones passed so far, in seconds from QEMU's start; those of the node it was cloned from come first."""
        before = self._frozen.milestones if self._frozen else ()
        return [*before, *passed([*self.milestones, SHELL], self.feed.since(0), self.started)]

    def freeze(self, state: Path) -> None:
        """Stops the machine for good and writes its state, without memory and disk, to a file; then ends QEMU."""
        self._watch.close()
        self.kubelet.close()
        migration.freeze(self.qmp, self.feed, state)
        self.close()

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

    def _connect(self) -> int:
        """Returns the port on 127.0.0.1 behind which the kubelet will be."""
        self.qmp.connect(_QMP_WITHIN)
        described = str(self.qmp.execute("human-monitor-command", {"command-line": "info usernet"}))
        forward = _FORWARD.search(described)
        if forward is None:
            raise HarnessError(f"QEMU forwards no port to the kubelet; it says: {described.strip()}")
        return int(forward["port"])

    def _thaw(self, frozen: Frozen) -> None:
        migration.restore(self.qmp, self.feed, frozen.state)
        self.feed.publish(Restored(tuple(entry.name for entry in frozen.milestones)))

    def _set_clock(self) -> None:
        """A restored guest goes on from the time at which it was frozen: certificates and logs need today's."""
        done = self.run(f"date -u -s @{time.time():.0f}")
        if done.status:
            raise HarnessError(f"The node's clock cannot be set: {done.text.strip()}")

    def _patience(self, within: float) -> Patience:
        return Patience(within * self._expectation.slowness, _SILENCE * self._expectation.slowness)

    def _reason_to_stop(self) -> str | None:
        """Why no command can be answered any more; None while one can. Looks only at what is new since it was asked last."""
        position = self.feed.position()
        outcome = judge.wait(self.feed, lambda _: False, Patience(0, _SILENCE), start=self._looked_at)
        if isinstance(outcome, judge.TooLate):
            self._looked_at = position
            return None
        return self._explain(outcome, "a command in the node's shell")

    def _failure(self, outcome: judge.Outcome, what: str) -> Exception:
        kind = HarnessError if isinstance(outcome, judge.QemuDied) else NodeFailure
        return kind(self._explain(outcome, what))

    def _explain(self, outcome: judge.Outcome, what: str) -> str:
        words = judge.explain(outcome, what, self.feed, [entry.name for entry in self.timeline()])
        return f"{words}\nartifacts: {self.artifacts}"


def _passed_here_or_before(name: str, met: Callable[[Happening], bool]) -> Callable[[Happening], bool]:
    return lambda happening: met(happening) or (isinstance(happening, Restored) and name in happening.milestones)


def _switched_off_by_guest(happening: Happening) -> bool:
    return isinstance(happening, QmpEvent) and happening.name == "SHUTDOWN" and happening.data.get("reason") == "guest-shutdown"


def _qemu_ended(happening: Happening) -> bool:
    return isinstance(happening, QemuExit)
