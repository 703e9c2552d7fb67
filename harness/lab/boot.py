"""One run of a node: QEMU from its start to its end, with every channel into it."""

import contextlib
import json
import socket
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from harness.errors import HarnessError
from harness.guest import clock
from harness.guest.credentials import Credentials
from harness.guest.kubelet import KubeletApi, KubeletWatch
from harness.guest.remote_command import RemoteCommand
from harness.guest.screen import Font, read
from harness.lab import evidence, pod_logs, timed_console, vitals
from harness.lab.container_log import AsLeft
from harness.lab.disk_watch import DiskWatch
from harness.lab.evidence import Witnesses
from harness.lab.expectation import Expectation
from harness.lab.frozen import Frozen
from harness.lab.refusals import Refusals
from harness.lab.waits import Waits
from harness.manifests.pods import StaticPod
from harness.serial import agent, console_pod
from harness.serial.agent import Agent
from harness.serial.console import Console
from harness.serial.result import Result
from harness.serial.shell import Shell
from harness.storage.disk import Disk
from harness.verdict.feed import Feed, Happening, Restored, ShellAnswer
from harness.verdict.lost_time import LostTime
from harness.verdict.situation import tells
from harness.verdict.standstill import Standstill
from harness.verdict.timeline import SHELL, Milestone, Passed
from harness.vm import migration
from harness.vm.machine import SSH_PORT, Channels
from harness.vm.process import QemuProcess
from harness.vm.qmp import Qmp
from harness.wire import dhcp, record
from harness.wire.dhcp import Lease
from harness.wire.record import Mark
from harness.wire.wire import Wire

if TYPE_CHECKING:
    import paramiko

T = TypeVar("T")

CAPTURE = "wire.pcap"
_KEPT_CAPTURE = "wire.pcapng"
# In seconds on the reference host.
_COMMAND_WITHIN = 60.0
_QMP_WITHIN = 30.0
# On a clone the agent is running already and answers at once.
_AGENT_WITHIN = 10.0
_EXIT_WITHIN = 1.0


def _no_disk() -> "contextlib.AbstractContextManager[Disk]":
    raise HarnessError("nobody knows this node's disk")


class Boot:
    """One run of a QEMU. `feed` has everything that is heard of it, `artifacts` is the folder of its logs."""

    qmp: Qmp

    def __init__(
        self,
        argv: Callable[[Channels], list[str]],
        artifacts: Path,
        credentials: Credentials,
        expectation: Expectation,
        font: Callable[[], Font | None],
        admitted: contextlib.ExitStack,
        frozen: Frozen | None = None,
        written: Sequence[Path] = (),
        registry: int | None = None,
        disk: AsLeft = _no_disk,
    ) -> None:
        """Starts QEMU stopped, connects everything, then lets it run, so that no byte and no event is lost.

        `admitted` is closed when QEMU has ended. `written` are the folders to which QEMU writes besides the artifacts;
        `registry` is the port on 127.0.0.1 that serves container images to the node; `disk` reads the node's disk.
        """
        artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts = artifacts
        self.feed = Feed(tells)
        self._expectation = expectation
        self._credentials, self._font, self._disk = credentials, font, disk
        self._frozen = frozen
        self._closing = admitted
        self.started, self._clocks_offset = time.monotonic(), clock.hosts_offset()
        self._takes_commands = self._is_closed = False
        standstill = Standstill()
        self._closing.callback(standstill.close)
        self._lost = LostTime(
            lambda: standstill.seconds() + (self.process.waited_for_cpu() if hasattr(self, "process") else 0.0)
        )
        self._disks = DiskWatch([artifacts, *written], self.feed)
        self._waits = Waits(
            self.feed,
            self.started,
            expectation,
            frozen,
            lost=self._lost,
            full_disk=self._disks.full,
            look=self._look_for_refusals,
            witnesses=self._witnesses,
        )
        self._closing.callback(self._disks.close)
        # A question that a node without a network leaves unanswered ends with QEMU.
        after_qemu = self._closing.enter_context(contextlib.ExitStack())
        try:
            qmp_end, console_end, agent_end = self._spawn(argv)
            token = credentials.token
            self.console = Console(console_end, self.feed, artifacts / "console.log", console_pod.reader(token))
            self._closing.callback(self.console.close)
            log, where = artifacts / "commands.jsonl", lambda: evidence.of_cpu(self.qmp, lambda _: "")
            self.agent = Agent(agent_end, token.encode(), self.feed, log, self._stop_if_over, self._lost, where)
            self._closing.callback(self.agent.close)
            self.qmp = Qmp(qmp_end, self.feed, artifacts / "qmp.jsonl")
            self._closing.callback(self.qmp.close)
            self.wire = Wire(self.qmp, self.feed, artifacts / CAPTURE)
            self._closing.callback(self.wire.close)
            self._connect()
            kubelets_port, self._ssh_port = map(self.wire.reach, (expectation.kubelet_port, SSH_PORT))
            self.kubelet = KubeletApi(kubelets_port, credentials, self._lost)
            self._closing.callback(self.kubelet.close)
            self._refusals = Refusals(self.kubelet, self._output_of, self.feed, expectation.slowness)
            self.shell = Shell(self.console, self._stop_if_over, greeting=console_pod.greeting(token), lost=self._lost)
            if frozen:
                self._thaw(frozen)
            if registry is not None:
                self.wire.serve(registry)
            self.qmp.execute("cont")
            if frozen:
                self.agent.call()
            self._watch = KubeletWatch(KubeletApi(kubelets_port, credentials), expectation.reachable, self.feed)
            after_qemu.callback(self._watch.close)
            if frozen and not frozen.keeps_its_clock:
                # Certificates and logs need the current time.
                clock.set_to_hosts(self.run)
        except BaseException:
            self.close()
            raise

    @property
    def frozen(self) -> Frozen | None:
        """The frozen node that this run continues; None for a run that began with the firmware."""
        return self._frozen

    @property
    def milestones(self) -> tuple[Milestone, ...]:
        """The node's own, then those of each pod."""
        return self._waits.milestones

    def expect(self, pod: StaticPod) -> None:
        """Adds a pod that was given to the running node to those that this run waits for."""
        self._waits.expect(pod)

    def expects(self, pod: str, container: str) -> bool:
        """Whether a manifest that this run was given names a container."""
        pods = self._waits.all_pods
        return any(each.name == pod and container in (*each.init_containers, *each.containers) for each in pods)

    def mark(self) -> int:
        """The current position in what is heard of the node, for `since`."""
        return self.feed.position()

    def wait(
        self,
        goal: Milestone | str | Callable[[Happening], bool],
        within: float | None = None,
        since: int | None = None,
    ) -> Happening:
        """Waits for a milestone, a pattern on the console or a predicate, and returns what met it.

        A milestone counts no matter when it was passed; its budget runs from the node's start, or from when its pod was added.
        A line counts if it came after the one that met the previous wait, or after the mark `since`.
        `within` is in seconds on the reference host. Raises NodeFailure as soon as the goal can no longer be met, HarnessError
        if the host is at fault.
        """
        return self._waits.wait(goal, within, since)

    def budget(self, milestone: Milestone) -> float:
        """The seconds after the start by which a milestone must be passed, or had to be, as the waits count them.

        As in each wait, the time that the host has taken from QEMU is added.
        """
        return self._waits.budget(milestone)

    def run(self, command: str, within: float = _COMMAND_WITHIN) -> Result:
        """Runs a command in the console container, as soon as that answers."""
        return self._commands().run(command, within * self._expectation.slowness)

    def read_file(self, path: PurePosixPath) -> bytes:
        """Returns the content of a file on the node; raises NodeFailure with the node's reason if it cannot be read."""
        return self._commands().read(f"/host{path}", _COMMAND_WITHIN * self._expectation.slowness)

    def write_file(self, path: PurePosixPath, content: bytes) -> None:
        """Writes a file on the node, which appears only when it is whole. Raises as `read_file`."""
        self._commands().write(f"/host{path}", content, _COMMAND_WITHIN * self._expectation.slowness)

    def _commands(self) -> Agent | Shell:
        if not self._takes_commands:
            self.wait_for_shell()
        return self.agent if self.agent.answers else self.shell

    def exec(self, command: RemoteCommand, within: float = _COMMAND_WITHIN) -> Result:
        """Runs a command in a container through the kubelet's endpoint."""
        return self.kubelet.exec(command, within * self._expectation.slowness, self._stop_if_over, self._lost)

    def until(self, condition: Callable[[], T], what: str, within: float = _COMMAND_WITHIN, seen: Callable[[], str] = str) -> T:
        """Evaluates a condition again and again, as the node goes on, until it is true, and returns its value.

        `what` names it in a failure, which also has what `seen` returns, or else the last value; `within` is in seconds on the
        reference host. Raises NodeFailure when the time is up or the node has ended.
        """
        return self._waits.until(condition, what, within, seen)

    def check(self, what: str) -> None:
        """Raises the failure of `what` if anything is wrong with the node or its pods by now."""
        self._waits.check(what)

    def check_end(self) -> None:
        """Raises the failure of a run that has ended, unless the guest switched the machine off."""
        if not self.process.running() and not self._waits.is_switched_off():
            self._stop_if_over()

    @property
    def why_void(self) -> str:
        """Why nothing that is found on this run proves anything, if that is so; an end that the harness made is no reason."""
        full = self._disks.full()
        return f"no space is left in {full}" if full else "" if self._is_closed else self._waits.ended_by_host()

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the node's port 22."""
        return self._ssh_port

    @property
    def capture(self) -> Path:
        """The capture of eth0's cable (see `capture.frames`): QEMU's during the run, the one in the artifacts after it."""
        kept = self.artifacts / _KEPT_CAPTURE
        return kept if kept.exists() else self.artifacts / CAPTURE

    def lease(self) -> Lease:
        """The lease that eth0 holds, as seen on its wire, even before a freeze; raises NodeFailure if it holds none."""
        return dhcp.lease(self._captures(), self._expectation.mac)

    def wait_for_shell(self) -> None:
        """Waits until the harness's console pod takes commands; raises NodeFailure if it does not, or if the clock is wrong.

        If the node has no second serial port, the shell on the first one takes them.
        """
        if not self.agent.answers and not self._agent_greets():
            warnings.warn(f"{self.artifacts}: there is no second serial port: commands go through the console.", stacklevel=2)
            self.shell.wait_ready(SHELL.within * self._expectation.slowness)
        is_first, self._takes_commands = not self._takes_commands, True
        self.feed.publish(ShellAnswer())
        if is_first and not self._frozen:
            vitals.refuse_wrong_clock(self.run, self.artifacts, self._clocks_offset)

    def _agent_greets(self) -> bool:
        """Waits for a greeting on either port; returns whether it was the agent's."""
        greeting = self._waits.for_console_pod(_AGENT_WITHIN if self._frozen else SHELL.within)
        return greeting is not None and greeting.port == agent.PORT

    def ssh(self, user: Path | None = None) -> "paramiko.SSHClient":
        """Logs in as root at an sshd that a pod runs, with the run's key or the private key in the file `user`.

        For a `with` block; see `ssh.connect`.
        """
        # Imported here, because paramiko takes long to import and collecting scenarios does not need it.
        from harness.guest import ssh

        within = _COMMAND_WITHIN * self._expectation.slowness
        host, user = self._credentials.ssh_host, user or self._credentials.ssh_user
        return ssh.connect(self.ssh_port, host, user, within, self._stop_if_over, self._lost)

    def timeline(self) -> list[Passed]:
        """The milestones passed so far, in seconds from QEMU's start; those of the node that it was cloned from come first."""
        return self._waits.passed()

    def freeze(self, state: Path, memory: migration.Memory = migration.Memory.IN_ITS_FILE) -> None:
        """Stops the machine for good and writes its state, without the disk, to a file; then ends QEMU."""
        self._watch.close()
        self.kubelet.close()
        migration.freeze(self.qmp, self.feed, state, memory)
        self.close()

    def screen(self) -> str:
        """The text on the machine's screen; raises HarnessError if it cannot be read."""
        font = self._font()
        if font is None:
            raise HarnessError(
                "The screen is read with the font of the reference image, which is not built: python -m images build"
            )
        picture = self.artifacts / "screen.ppm"
        self.qmp.execute("screendump", {"filename": str(picture)})
        return read(picture.read_bytes(), font).text

    def press_power_button(self) -> None:
        """Presses the machine's power button for a short time (ACPI)."""
        self.qmp.execute("system_powerdown")

    def wait_for_power_off(self, within: float) -> None:
        """Waits until the guest has switched the machine off and QEMU has ended successfully.

        Raises NodeFailure if the guest does not, HarnessError if QEMU does not.
        """
        self._waits.for_power_off(within)
        if (status := self.process.wait(_QMP_WITHIN)) != 0:
            how = "QEMU did not end" if status is None else f"QEMU ended with status {status}"
            raise HarnessError(f"{how} after the guest's power-off; artifacts: {self.artifacts}")

    def close(self) -> None:
        """Ends QEMU, whatever its state, and everything that listens to it; writes the timeline. A second call does nothing."""
        self._is_closed = True
        with self._closing.pop_all():
            entries = [vars(entry) for entry in self.timeline()]
            # The disk watch has reported a full disk.
            with contextlib.suppress(OSError):
                (self.artifacts / "timeline.json").write_text(json.dumps(entries, indent=1) + "\n")
                timed_console.keep(self.feed, self.started, self.artifacts / "console.jsonl")
        started = time.time() - (time.monotonic() - self.started)
        marks = [Mark(started + entry.after, entry.name) for entry in self.timeline() if not entry.frozen]
        with contextlib.suppress(OSError):
            record.keep(self.artifacts / CAPTURE, self.artifacts / _KEPT_CAPTURE, self._expectation.mac, marks)

    def keep_logs(self) -> None:
        """Writes the containers' logs to the artifacts, from the disk if the node has ended."""
        if self.process.running():
            pod_logs.keep(self.agent, self.artifacts / "pods")
        else:
            pod_logs.keep_left(self._disk, self.artifacts / "pods")

    def _spawn(self, argv: Callable[[Channels], list[str]]) -> tuple[socket.socket, socket.socket, socket.socket]:
        qmp_ours, qmp_theirs = socket.socketpair()
        console_ours, console_theirs = socket.socketpair()
        agent_ours, agent_theirs = socket.socketpair()
        with qmp_theirs, console_theirs, agent_theirs:
            channels = Channels(qmp_theirs.fileno(), console_theirs.fileno(), agent_theirs.fileno())
            words = argv(channels)
            (self.artifacts / "argv.json").write_text(json.dumps(words, indent=1) + "\n")
            self.process = QemuProcess.start(words, channels.all, self.artifacts / "qemu.log", self.feed, self._hear_out)
        self._closing.callback(self.process.kill)
        return qmp_ours, console_ours, agent_ours

    def _connect(self) -> None:
        try:
            self.qmp.connect(_QMP_WITHIN)
        except HarnessError as hung_up:
            self.process.wait(_EXIT_WITHIN)
            if (ended := self._waits.end("QEMU's greeting")) is not None:
                raise ended from hung_up
            raise

    def _thaw(self, frozen: Frozen) -> None:
        migration.restore(self.qmp, self.feed, frozen.state, frozen.memory)
        self.feed.publish(Restored(tuple(entry.name for entry in frozen.milestones)))

    def _look_for_refusals(self) -> None:
        self._refusals.look(self._waits.unlisted())
        if self.agent.answers:
            # A kubelet that was reachable before would have listed them by now.
            look = self._refusals.look if self._frozen and self._frozen.was_reachable else self._refusals.look_unasked
            look(self._waits.unheard())

    def _output_of(self, command: str) -> str | None:
        return self.run(command).text if self._takes_commands or self._frozen else None

    def _hear_out(self) -> None:
        """Waits for QEMU's last words, which say what ended it."""
        if hasattr(self, "qmp"):
            self.qmp.hear_out(_EXIT_WITHIN)

    def _stop_if_over(self) -> None:
        """Raises why the node can no longer answer, for whoever waits for an answer; failed pods do not count."""
        if (ended := self._waits.end("an answer of the node's")) is not None:
            raise ended

    def _witnesses(self) -> Witnesses:
        return Witnesses(
            kubelet=lambda: self.kubelet,
            agent=self.agent,
            qmp=self.qmp,
            screen=self.screen,
            captures=self._captures(),
            mac=self._expectation.mac,
            artifacts=self.artifacts,
            reachable=self._expectation.reachable,
            unplugged=lambda: self.wire.is_unplugged,
            disk=self._disk,
        )

    def _captures(self) -> list[Path]:
        return [*([self._frozen.dhcp] if self._frozen else []), self.capture]
