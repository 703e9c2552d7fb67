"""One run of a node: QEMU from its start to its end, with every channel into it, and the wait on all of them."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.errors import HarnessError, NodeFailure
from harness.guest.credentials import Credentials
from harness.guest.kubelet import KubeletApi, KubeletWatch
from harness.guest.screen import Font, read
from harness.lab.expectation import Expectation, milestones_of
from harness.manifests.pods import StaticPod
from harness.serial.console import Console
from harness.serial.shell import Result, Shell
from harness.verdict import judge
from harness.verdict.feed import Feed, Happening, QemuExit, QmpEvent, Restored, ShellAnswer
from harness.verdict.judge import Met, Patience
from harness.verdict.timeline import API, BOOT, CONSOLE, CONSOLE_GREETING, SHELL, Milestone, Passed, line_matching, passed
from harness.vm import migration
from harness.vm.machine import KUBELET_PORT, SSH_PORT, Channels
from harness.vm.process import QemuProcess
from harness.vm.qmp import Qmp

if TYPE_CHECKING:
    import paramiko

T = TypeVar("T")

# A line of QEMU's table: the port on this host, then the guest's address and port.
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<here>\d+)\s+\S+\s+(?P<guest>\d+)")
CAPTURE = "wire.pcap"
# Reference TCG, in seconds. The longest silence of a good boot is the kubelet's start, of 10 s.
_SILENCE = 90.0
_COMMAND_WITHIN = 60.0
_ASK_AGAIN_SECONDS = 0.3
_SCREEN_LINES = 8
_QMP_WITHIN = 30.0
_EXIT_WITHIN = 1.0


@dataclass(frozen=True)
class Frozen:
    """What a run goes on from instead of the firmware: a machine's state, and the milestones that it had passed."""

    state: Path
    milestones: tuple[Passed, ...]

    @property
    def was_reachable(self) -> bool:
        """Whether the kubelet could be asked."""
        return API.name in [entry.name for entry in self.milestones]


class Boot:
    """A started QEMU. `feed` is all that is heard of it, `artifacts` the folder of its logs, `pods` what it is known to run."""

    def __init__(
        self,
        argv: Callable[[Channels], list[str]],
        artifacts: Path,
        credentials: Credentials,
        expectation: Expectation,
        font: Callable[[], Font | None],
        admitted: contextlib.ExitStack,
        frozen: Frozen | None = None,
    ) -> None:
        """Starts QEMU stopped, connects everything, then lets it run: no byte and no event is lost.

        `admitted` is left when QEMU has ended.
        """
        artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts = artifacts
        self.feed = Feed()
        self._expectation = expectation
        self.pods = list(expectation.pods)
        self._credentials, self._font = credentials, font
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
            self._ports = self._connect()
            self.kubelet = KubeletApi(self._ports[KUBELET_PORT], credentials)
            self._closing.callback(self.kubelet.close)
            self.shell = Shell(self.console, self._reason_to_stop, greeting=CONSOLE_GREETING)
            if frozen:
                self._thaw(frozen)
            self.qmp.execute("cont")
            self._watch = KubeletWatch(KubeletApi(self._ports[KUBELET_PORT], credentials), expectation.reachable, self.feed)
            self._closing.callback(self._watch.close)
            if frozen:
                self._set_clock()
        except BaseException:
            self.close()
            raise

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """The node's own, then those of each pod."""
        return (*BOOT, *(milestone for pod in self.pods for milestone in milestones_of(pod)))

    def expect(self, pod: StaticPod) -> None:
        """Has a pod that was handed to the running node belong to it."""
        self.pods.append(pod)

    def wait(self, goal: Milestone | str | Callable[[Happening], bool], within: float | None = None) -> Happening:
        """Waits for a milestone, a pattern on the console or a predicate, and returns what met it.

        `within` is in seconds on the reference host. Raises NodeFailure as soon as it can no longer happen, HarnessError
        when QEMU itself died.
        """
        __tracebackhide__ = True
        match goal:
            case Milestone(name=name, within=budget):
                what, met = f"milestone {name}", _any_of(name, self._proofs_of(goal))
            case str():
                what, met, budget = f"console line {goal!r}", line_matching(goal), _COMMAND_WITHIN
            case _:
                what, met, budget = getattr(goal, "__doc__", None) or repr(goal), goal, _COMMAND_WITHIN
        patience = self._patience(within if within is not None else budget)
        console_pod = [self._expectation.console_pod] if self._expectation.console_pod else []
        outcome = judge.wait(self.feed, met, patience, doomed=[pod.name for pod in (*self.pods, *console_pod)])
        if isinstance(outcome, Met):
            return outcome.happening
        raise self._failure(outcome, what)

    def run(self, command: str, within: float = _COMMAND_WITHIN) -> Result:
        """Runs a command in the console container's shell, once that answers."""
        if not self.shell.ready:
            self.wait_for_shell()
        return self.shell.run(command, within * self._expectation.slowness)

    def until(self, condition: Callable[[], T], what: str, within: float = _COMMAND_WITHIN) -> T:
        """Asks for a condition again and again, as the node goes on, until it is true, and returns it.

        `what` names it in a failure, `within` is in seconds on the reference host. Raises NodeFailure when the time is over
        or the node is.
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + within * self._expectation.slowness
        while not (true := condition()):
            if reason := self._reason_to_stop(what):
                raise NodeFailure(reason)
            if time.monotonic() >= deadline:
                raise self._failure(judge.TooLate(within * self._expectation.slowness), what)
            self.feed.wait_beyond(self.feed.position(), _ASK_AGAIN_SECONDS)
        return true

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 behind which an sshd of the node's would be."""
        return self._ports[SSH_PORT]

    @property
    def capture(self) -> Path:
        """What went over eth0's cable (see `capture.frames`)."""
        return self.artifacts / CAPTURE

    def wait_for_shell(self) -> None:
        """Waits until the shell on the serial port answers; raises NodeFailure if none does."""
        if self._expectation.console_pod is None:
            raise HarnessError("This node's serial port belongs to a pod of the scenario: no command can be run there.")
        self.shell.wait_ready(SHELL.within * self._expectation.slowness)
        self.feed.publish(ShellAnswer())

    @property
    def has_shell(self) -> bool:
        """Whether the harness's own shell has the serial port."""
        return self._expectation.console_pod is not None

    def ssh(self, user: Path | None = None) -> "paramiko.SSHClient":
        """Logs in as root where a pod runs sshd, with the run's key or the private key in the file `user`.

        For a `with` block; see `ssh.connect`.
        """
        # Imported here: no collection of scenarios needs paramiko, which takes long to import.
        from harness.guest import ssh

        within = _COMMAND_WITHIN * self._expectation.slowness
        host, user = self._credentials.ssh_host, user or self._credentials.ssh_user
        return ssh.connect(self.ssh_port, host, user, within, self._reason_to_stop)

    def timeline(self) -> list[Passed]:
        """The milestones passed so far, in seconds from QEMU's start; those of the node it was cloned from come first."""
        before = self._frozen.milestones if self._frozen else ()
        return [*before, *passed([*self.milestones, CONSOLE, API, SHELL], self.feed.since(0), self.started)]

    def freeze(self, state: Path) -> None:
        """Stops the machine for good and writes its state, without memory and disk, to a file; then ends QEMU."""
        self._watch.close()
        self.kubelet.close()
        migration.freeze(self.qmp, self.feed, state)
        self.close()

    def screen(self) -> str:
        """The text on the machine's screen; raises HarnessError where it cannot be read."""
        font = self._font()
        if font is None:
            raise HarnessError("The screen is read with the font of the reference image, which is not built: make image")
        picture = self.artifacts / "screen.ppm"
        self.qmp.execute("screendump", {"filename": str(picture)})
        return read(picture.read_bytes(), font).text

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

    def _connect(self) -> dict[int, int]:
        """Returns the ports on 127.0.0.1 by those of the guest that will be behind them."""
        try:
            self.qmp.connect(_QMP_WITHIN)
        except HarnessError as hung_up:
            outcome = judge.wait(self.feed, lambda _: False, Patience(_EXIT_WITHIN, _EXIT_WITHIN))
            if isinstance(outcome, judge.QemuDied):
                raise self._failure(outcome, "QEMU's greeting") from hung_up
            raise
        described = str(self.qmp.execute("human-monitor-command", {"command-line": "info usernet"}))
        ports = {int(forward["guest"]): int(forward["here"]) for forward in _FORWARD.finditer(described)}
        if not ports.keys() >= {KUBELET_PORT, SSH_PORT}:
            raise HarnessError(f"QEMU forwards no ports to the kubelet and to SSH; it says: {described.strip()}")
        return ports

    def _thaw(self, frozen: Frozen) -> None:
        migration.restore(self.qmp, self.feed, frozen.state)
        self.feed.publish(Restored(tuple(entry.name for entry in frozen.milestones)))

    def _set_clock(self) -> None:
        """A restored guest goes on from the time at which it was frozen: certificates and logs need today's."""
        done = self.run(f"date -u -s @{time.time():.0f}")
        if done.status:
            raise HarnessError(f"The node's clock cannot be set: {done.text.strip()}")

    def _proofs_of(self, milestone: Milestone) -> Sequence[Milestone]:
        """A milestone of the way up, with all behind it: an image that is silent at first tells of it only by these."""
        if milestone not in BOOT:
            return [milestone]
        return [*BOOT[BOOT.index(milestone) :], CONSOLE, *(later for pod in self.pods for later in milestones_of(pod))]

    def _patience(self, within: float) -> Patience:
        return Patience(within * self._expectation.slowness, _SILENCE * self._expectation.slowness)

    def _reason_to_stop(self, what: str = "a command in the node's shell") -> str | None:
        """Why `what` cannot be any more; None while it can. Looks only at what is new since it was asked last."""
        position = self.feed.position()
        outcome = judge.wait(self.feed, lambda _: False, Patience(0, _SILENCE), start=self._looked_at)
        if isinstance(outcome, judge.TooLate):
            self._looked_at = position
            return None
        return self._explain(outcome, what)

    def _failure(self, outcome: judge.Outcome, what: str) -> Exception:
        kind = HarnessError if isinstance(outcome, judge.QemuDied) else NodeFailure
        return kind(self._explain(outcome, what))

    def _explain(self, outcome: judge.Outcome, what: str) -> str:
        words = judge.explain(outcome, what, self.feed, [entry.name for entry in self.timeline()])
        return f"{words}\n{self._last_words_on_screen()}artifacts: {self.artifacts}"

    def _last_words_on_screen(self) -> str:
        """What an image that is silent on its serial port says; nothing where the screen cannot be read any more."""
        try:
            lines = self.screen().splitlines()[-_SCREEN_LINES:]
        except (HarnessError, OSError):
            return ""
        return "".join(["last words on the screen:\n", *(f"  | {line}\n" for line in lines)]) if lines else ""


def _any_of(name: str, proofs: Sequence[Milestone]) -> Callable[[Happening], bool]:
    return lambda happening: (
        any(proof.passed(happening) for proof in proofs) or (isinstance(happening, Restored) and name in happening.milestones)
    )


def _switched_off_by_guest(happening: Happening) -> bool:
    return isinstance(happening, QmpEvent) and happening.name == "SHUTDOWN" and happening.data.get("reason") == "guest-shutdown"


def _qemu_ended(happening: Happening) -> bool:
    return isinstance(happening, QemuExit)
