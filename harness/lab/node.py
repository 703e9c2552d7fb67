"""A kiOS node under test: its disk, its static pods, and its runs. The one object that a scenario talks to."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness import space
from harness.errors import HarnessError, InputError, NodeFailure
from harness.guest.credentials import Credentials
from harness.lab import injection, own_files
from harness.lab.admission import QEMU_ITSELF, Need
from harness.lab.boot import CAPTURE, Boot
from harness.lab.expectation import Expectation
from harness.lab.frozen import Frozen
from harness.lab.host import Host
from harness.lab.initramfs import on_node
from harness.lab.load_watch import LoadWatch
from harness.lab.order import Order
from harness.lab.questions import Questions
from harness.lab.remains import Remains
from harness.lab.stock import refuse_unknown
from harness.lab.template import Template
from harness.manifests.pods import StaticPod, load, refuse_clashes, refuse_too_large, warn_of_short_names
from harness.storage import overlay
from harness.storage.disk import Disk
from harness.storage.gpt import GptError
from harness.verdict.feed import Happening
from harness.verdict.timeline import BOOT, FIRMWARE, Milestone, Passed
from harness.vm import migration, variables
from harness.vm.machine import CarriedMemory, Files, FrozenMemory, Memory, SharedMemory, argv
from harness.wire import dhcp
from harness.wire.capture import Address
from harness.wire.wire import Wire

T = TypeVar("T")
# kiOS's grace periods add up to 30 s; then everything is ended and unmounted.
_POWER_OFF_WITHIN = 120.0
# Other nodes of the same run end within this time.
_ADMISSION_WITHIN = 1800.0
# Measured: the memory that a clone does not share after it has worked for a minute.
_CLONE = 300 << 20
# Ten times what a node writes to its disk and its logs while it boots.
_WRITES = 64 << 20
# The share of its CPUs that a clone, whose pods all run, takes at first.
_IDLE = 0.2


@dataclass(frozen=True)
class Folders:
    """Where a node's own files are until it ends, and where its artifacts stay."""

    folder: Path
    artifacts: Path


class Node(Questions):
    """A node that was prepared and can be started, more than once. The image or template that it is made from is not changed.

    `is_clone` says whether its first run continues a frozen node.
    """

    def __init__(self, order: Order, host: Host, credentials: Credentials, place: Folders) -> None:
        """For `prepare`, `clone` and `enter`, which make the node's files."""
        self.order, self.artifacts, self.credentials = order, place.artifacts, credentials
        self._host, self._folder = host, place.folder
        self._boots: list[Boot] = []
        self._added: list[StaticPod] = []
        self._memory: Memory = None
        self._frozen: Frozen | None = None
        self.is_clone = False
        # Called with the failure of a boot that ended before its first container.
        self.when_it_did_not_come_up: Callable[[str], None] = lambda words: None
        place.folder.mkdir(parents=True)
        place.artifacts.mkdir(parents=True, exist_ok=True)

    @classmethod
    def prepare(cls, order: Order, host: Host, credentials: Credentials, place: Folders) -> "Node":
        """Makes a node that has never run: its disk is an overlay on the image, with everything that was ordered."""
        image = order.image
        if order.machine.sector_size != image.table.sector_size:
            raise InputError(
                f"{image.path} is made for blocks of {image.table.sector_size} bytes, not {order.machine.sector_size}: "
                "the firmware would not find its partitions."
            )
        node = cls(order, host, credentials, place)
        # Files are put on a copy of the data partition first.
        space.check(node._folder, image.path.stat().st_blocks * 512 + _WRITES, "preparing a node")
        overlay.create(image.path, node.overlay, order.machine.disk_size)
        injection.inject(order, credentials, node.overlay, node._folder / "scratch", place.artifacts)
        variables.write(host.firmware.variables, node.variables, image.esp, order.load_options)
        return node

    @classmethod
    def clone(cls, template: Template, order: Order, host: Host, place: Folders) -> "Node":
        """Makes a node that continues a frozen one, with memory, disk and variables of its own."""
        node = cls(order, host, template.credentials, place)
        overlay.stack(template.disk, node.overlay)
        shutil.copyfile(template.variables, node.variables)
        node._memory = FrozenMemory(template.memory)
        node.is_clone = True
        node._frozen = Frozen(template.state, template.milestones, template.dhcp)
        return node

    @classmethod
    def enter(cls, remains: Remains, order: Order, host: Host, place: Folders) -> "Node":
        """Makes a node from the remains of one that failed: it continues there, or boots if there is no state."""
        node = cls(order, host, remains.credentials, place)
        overlay.stack(remains.disk, node.overlay)
        shutil.copyfile(remains.variables, node.variables)
        if remains.state.exists():
            node._memory = CarriedMemory()
            carried = migration.Memory.IN_THE_STATE
            node._frozen = Frozen(remains.state, remains.milestones, remains.dhcp, carried, keeps_its_clock=True)
        return node

    @property
    def overlay(self) -> Path:
        """The node's disk."""
        return self._folder / "disk.qcow2"

    @property
    def variables(self) -> Path:
        """The node's UEFI variable store."""
        return self._folder / "variables.fd"

    def start(self) -> None:
        """Switches the machine on, or resumes it where it was frozen; raises InputError if it is running."""
        if self._boots and self._boots[-1].process.running():
            raise InputError("The node runs already.")
        space.check(self._folder, _WRITES, "a node's disk")
        artifacts = self.artifacts / f"boot-{len(self._boots) + 1}"
        capture = artifacts / CAPTURE
        files = Files(self._host.firmware.code, self.variables, self.overlay, capture, self._memory)
        # A frozen state is resumed once; switched on again, the machine starts with its firmware.
        frozen, self._frozen, self._memory = self._frozen, None, None

        admitted = ExitStack()
        need = _need(self.order, frozen, files.memory)
        keep_cpus = admitted.enter_context(self._host.admission.reserve(need, _ADMISSION_WITHIN))

        mac = self.order.machine.mac
        address = Address(capture, mac)

        def reachable() -> bool:
            was = frozen is not None and frozen.was_reachable
            return was or address.seen() is not None

        try:
            boot = Boot(
                lambda channels: argv(
                    self._host.qemu.path,
                    self.order.machine,
                    self._host.accelerator,
                    files,
                    channels,
                    self.order.registry,
                ),
                artifacts,
                self.credentials,
                Expectation(
                    self.order.pods,
                    self.order.console_pod,
                    self._host.accelerator.slowness,
                    reachable,
                    self.order.machine.mac,
                    self.order.kubelet.port,
                    # Generation B forgets its logs.
                    0 if self.order.initramfs else len(self._boots),
                    self.order.is_silent,
                ),
                self._host.font,
                admitted,
                frozen,
                [self._folder],
                self.order.registry,
                self.disk_as_it_is,
            )
        except BaseException:
            # Give its room to others, even if nothing had been started yet.
            admitted.close()
            raise
        self._boots.append(boot)
        load = LoadWatch(boot.process.cpu_seconds, keep_cpus, self.order.machine.cpus)
        admitted.callback(load.close)

    def start_freezable(self, memory: Path) -> None:
        """Switches the machine on with its memory in a file, so that the run can be frozen."""
        # The file is sparse, and QEMU dies at the first page for which there is no space.
        space.check(memory.parent, self.order.machine.memory + _WRITES, "the memory of a node that is to be frozen")
        self._memory = SharedMemory(memory)
        self.start()

    def freeze(self, state: Path, messages: Path) -> Sequence[Passed]:
        """Freezes the running node for good and saves its DHCP messages; returns the milestones that it had passed."""
        self.boot.freeze(state)
        dhcp.keep([self.boot.capture], messages)
        return self.timeline()

    def leave(self, folder: Path) -> Remains:
        """Ends the node where it is; puts its state and memory into a folder, and rebases its disk on the image alone.

        If the machine cannot be frozen, or has ended, the remains say why.
        """
        remains = Remains(folder, self.credentials, tuple(self.timeline()), self.overlay, self.variables)
        why = ""
        try:
            if not self.boot.process.running():
                raise HarnessError("its QEMU had ended")
            space.check(folder, self.order.machine.memory + _WRITES, "the memory of a node")
            self.boot.freeze(remains.state, migration.Memory.IN_THE_STATE)
        except HarnessError as unfrozen:
            remains.state.unlink(missing_ok=True)
            why = str(unfrozen)
        self._end()
        overlay.rebase(self.overlay, self.order.image.path)
        before = [self.boot.frozen.dhcp] if self.boot.frozen else []
        dhcp.keep([capture for capture in (*before, self.boot.capture) if capture.exists()], remains.dhcp)
        return replace(remains, why_no_state=why)

    @property
    def boots(self) -> Sequence[Boot]:
        """Every run so far, in order."""
        return tuple(self._boots)

    @property
    def boot(self) -> Boot:
        """The current run, or the last one."""
        if not self._boots:
            raise InputError("The node was never started.")
        return self._boots[-1]

    @property
    def name(self) -> str:
        """The name of its folder of artifacts, as `node-1`."""
        return self.artifacts.name

    @property
    def started(self) -> float | None:
        """When the current run began, as `time.monotonic`; None if there is none."""
        return self.boot.started if self._boots and self.boot.process.running() else None

    def awaited(self) -> Sequence[str]:
        """The milestones that the last run has yet to pass, in order."""
        passed = {entry.name for entry in self.timeline()}
        return [milestone.name for milestone in self.boot.milestones if milestone.name not in passed]

    @property
    def why_void(self) -> str:
        """See `Boot.why_void`, of any of its runs; the image beneath its disk may also be another by now."""
        changed = f"{self.order.image.change} beneath the node's disk" if self.order.image.change else ""
        return next(filter(None, (boot.why_void for boot in self._boots)), changed)

    @property
    def was_started(self) -> bool:
        """Whether it has had a run."""
        return bool(self._boots)

    def mark(self) -> int:
        """See `Boot.mark`."""
        return self.boot.mark()

    def wait(
        self, goal: Milestone | str | Callable[[Happening], bool], within: float | None = None, since: int | None = None
    ) -> Happening:
        """See `Boot.wait`."""
        return self.boot.wait(goal, within, since)

    def until(self, condition: Callable[[], T], what: str, within: float | None = None) -> T:
        """See `Boot.until`."""
        return self.boot.until(condition, what) if within is None else self.boot.until(condition, what, within)

    def wait_until_ready(self) -> None:
        """Waits for the firmware, the kernel, both daemons, every container of every pod and the shell, each for its budget."""
        try:
            for milestone in self.boot.milestones:
                self.wait(milestone)
        except NodeFailure as failure:
            if self._did_not_come_up():
                self.when_it_did_not_come_up(str(failure))
            raise
        finally:
            for entry in self.timeline():
                if entry.name == FIRMWARE.name and not entry.frozen:
                    self._host.heard_firmware(entry.after)
        self.boot.wait_for_shell()
        # A container that may end passed its milestone when it started, and may have failed since.
        self.boot.check("the node's pods")

    def _did_not_come_up(self) -> bool:
        """Whether no manifest of the scenario can be at fault: nothing ran, not even the harness's own pod."""
        return {entry.name for entry in self.timeline()} <= {milestone.name for milestone in BOOT}

    def add(self, pod: StaticPod | Path | str) -> StaticPod:
        """Gives a manifest to the running kubelet, as a user with a shell would; `wait_until_ready` then waits for it too.

        Raises InputError for a pod that would replace another, including the image's own, or that names a container image
        which the node cannot get.
        """
        added = pod if isinstance(pod, StaticPod) else load(pod)
        beside = [*self.order.all_pods, *self._added, added]
        refuse_clashes(beside)
        warn_of_short_names([added])
        refuse_too_large(beside, self.order.machine.memory, self.order.machine.cpus)
        refuse_unknown(self.order.lacking(added.images), self.order.supplied, f"the store of {self.order.image.path}")
        own_files.check_manifests(self.order.shipped, [added], self.order.place_of(added).parent)
        self._added.append(added)
        self.write(on_node(self.order.place_of(added)), added.text())
        injection.keep_manifest(added, self.artifacts)
        self.boot.expect(added)
        return added

    @property
    def pods_given(self) -> Sequence[StaticPod]:
        """The scenario's pods: those that were ordered, and those added since."""
        return (*self.order.pods, *self._added)

    @property
    def slowness(self) -> float:
        """This host's time over the reference host's: the factor of every deadline."""
        return self._host.accelerator.slowness

    @property
    def wire(self) -> Wire:
        """The network of the running machine."""
        return self.boot.wire

    def forward(self, port: int) -> int:
        """Returns a port on 127.0.0.1 that leads to a TCP port of the node until the run ends."""
        return self.wire.forward(port)

    def timeline(self) -> Sequence[Passed]:
        """The milestones of the last run."""
        return self.boot.timeline()

    def power_off(self) -> Disk:
        """Presses the power button, waits for the orderly end, and returns the disk as it was left."""
        self._end_in_order()
        return self.disk()

    def reboot(self) -> None:
        """Powers the node off in order and switches it on again; `wait_until_ready` then waits as after `start`."""
        self._end_in_order()
        self.start()

    def disk(self) -> Disk:
        """Reads the disk of a node that is not running; raises InputError if it is.

        The disk returned is a raw copy, which does not change when the node boots again. Raises NodeFailure if it no longer has
        a partition table.
        """
        if self._boots and self.boot.process.running():
            raise InputError("The disk of a running node changes while it is read: power it off first.")
        raw = self._folder / f"disk-{len(self._boots)}.raw"
        raw.unlink(missing_ok=True)
        overlay.flatten(self.overlay, raw)
        try:
            return Disk.read(raw, self.order.machine.sector_size)
        except GptError as lost:
            raise NodeFailure(f"the node's disk has no partition table any more: {lost}") from lost

    @contextlib.contextmanager
    def disk_as_it_is(self) -> Iterator[Disk]:
        """Reads the disk of a node that may be running, as the node would find it after a power cut; for a `with` block."""
        raw = self._folder / "disk-as-it-is.raw"
        try:
            overlay.flatten_as_it_is(self.overlay, raw)
            disk = Disk.read(raw, self.order.machine.sector_size)
            # An unreadable data partition raises when it is read.
            with contextlib.suppress(NodeFailure):
                disk.replay_journal()
            yield disk
        finally:
            raw.unlink(missing_ok=True)

    def keep_disk(self) -> None:
        """Ends the node and moves its disk and variables to its artifacts; the disk still needs the image beneath it."""
        self._end()
        for file in (self.overlay, self.variables):
            if file.exists():
                shutil.move(file, self.artifacts / file.name)

    def close(self) -> None:
        """Ends the node and removes its files, except for the artifacts."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_in_order(self) -> None:
        self.boot.press_power_button()
        self.boot.wait_for_power_off(_POWER_OFF_WITHIN)
        self.boot.close()

    def _end(self) -> None:
        for boot in self._boots:
            boot.close()


def _need(order: Order, frozen: Frozen | None, of_machine: Memory) -> Need:
    """What a node takes at first: one that boots keeps its CPUs busy, and so does one that is about to be given its pods."""
    memory = _CLONE if isinstance(of_machine, FrozenMemory) else order.machine.memory + QEMU_ITSELF
    return Need(memory, order.machine.cpus * (_IDLE if frozen and order.pods else 1))
