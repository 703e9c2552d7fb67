"""A kiOS node under test: its disk, its static pods, and its runs. The one object that a scenario talks to."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import overlay, variables
from harness.boot import Boot, Expectation
from harness.capture import announced_address
from harness.disk import Disk
from harness.errors import HarnessError
from harness.feed import Happening
from harness.firmware import Firmware
from harness.kubelet import CONFIG, Credentials
from harness.machine import Accelerator, Files, Machine, argv
from harness.pods import StaticPod
from harness.shell import Result
from harness.timeline import Milestone, Passed

# The first address that QEMU's user network leases, and kiOS's default name: with this line the kubelet finds its own
# address at once instead of asking a DNS server that no test network has.
_HOSTS = b"127.0.0.1\tlocalhost\n10.0.2.15\tkios-node\n"
_HOSTS_FILE = PurePosixPath("/meta/etc/hosts")
# kiOS's grace periods sum up to 30 s; then everything is ended and unmounted.
_POWER_OFF_WITHIN = 120.0


@dataclass(frozen=True)
class Host:
    """What runs nodes here: QEMU, firmware, the accelerator that was proven, and the run's credentials."""

    qemu: Path
    firmware: Firmware
    accelerator: Accelerator
    credentials: Credentials


@dataclass(frozen=True)
class Order:
    """A node to be: its machine, its static pods, and more files for its data partition (path on it to bytes)."""

    machine: Machine
    pods: Sequence[StaticPod]
    files: Mapping[PurePosixPath, bytes]


class Node:
    """A node that was prepared and can be started, more than once. `image` is never written to."""

    def __init__(self, image: Disk, order: Order, host: Host, folder: Path, artifacts: Path) -> None:
        """Makes the node's own disk and variable store in `folder`; `artifacts` keeps what is to be read afterwards."""
        self.image, self.order, self.artifacts = image, order, artifacts
        self._host, self._folder = host, folder
        self._boots: list[Boot] = []
        folder.mkdir(parents=True)
        artifacts.mkdir(parents=True, exist_ok=True)
        if order.machine.sector_size != image.table.sector_size:
            raise HarnessError(
                f"{image.path} is made for blocks of {image.table.sector_size} bytes, not {order.machine.sector_size}: "
                "the firmware would not find its partitions."
            )
        overlay.create(image.path, self._overlay, order.machine.disk_size)
        self._inject()
        variables.write(host.firmware.variables, self._folder / "variables.fd", image.esp, order.machine.kernel_arguments)

    def start(self) -> None:
        """Switches the machine on; raises HarnessError if it is."""
        if self._boots and self._boots[-1].process.running():
            raise HarnessError("The node runs already.")
        artifacts = self.artifacts / f"boot-{len(self._boots) + 1}"
        files = Files(self._host.firmware.code, self._folder / "variables.fd", self._overlay, artifacts / "wire.pcap")
        self._boots.append(
            Boot(
                lambda channels: argv(self._host.qemu, self.order.machine, self._host.accelerator, files, channels),
                artifacts,
                self._host.credentials,
                Expectation(
                    self.order.pods,
                    self._host.accelerator.slowness,
                    lambda: announced_address(files.capture, self.order.machine.mac) is not None,
                ),
            )
        )

    @property
    def boot(self) -> Boot:
        """The run that is, or was the last."""
        if not self._boots:
            raise HarnessError("The node was never started.")
        return self._boots[-1]

    def wait(self, goal: Milestone | str | Callable[[Happening], bool], within: float | None = None) -> Happening:
        """See `Boot.wait`."""
        __tracebackhide__ = True
        return self.boot.wait(goal, within)

    def wait_until_ready(self) -> None:
        """Waits for the firmware, the kernel, both daemons and every container of every pod, each within its budget."""
        __tracebackhide__ = True
        for milestone in self.boot.milestones:
            self.wait(milestone)

    def run(self, command: str) -> Result:
        """Runs a command in the console container's shell; the host's files are under /host there."""
        return self.boot.run(command)

    def timeline(self) -> list[Passed]:
        """The milestones of the last run."""
        return self.boot.timeline()

    def power_off(self) -> Disk:
        """Presses the power button, waits for the orderly end, and returns the disk as it was left."""
        self.boot.press_power_button()
        self.boot.wait_for_power_off(_POWER_OFF_WITHIN)
        self.boot.close()
        return self.disk()

    def disk(self) -> Disk:
        """Reads the disk of a node that does not run, as a raw copy; raises HarnessError if it runs."""
        if self._boots and self.boot.process.running():
            raise HarnessError("The disk of a running node changes while it is read: power it off first.")
        raw = self._folder / "disk.raw"
        raw.unlink(missing_ok=True)
        overlay.flatten(self._overlay, raw)
        return Disk.read(raw, self.order.machine.sector_size)

    @property
    def was_started(self) -> bool:
        """Whether there is a run to speak of."""
        return bool(self._boots)

    def keep_disk(self) -> None:
        """Moves the node's disk and variable store to its artifacts, once it does not run; the disk needs its image."""
        for boot in self._boots:
            boot.close()
        for file in (self._overlay, self._folder / "variables.fd"):
            if file.exists():
                shutil.move(file, self.artifacts / file.name)

    def close(self) -> None:
        """Ends the node and removes its files, but for the artifacts."""
        for boot in self._boots:
            boot.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _overlay(self) -> Path:
        return self._folder / "disk.qcow2"

    def _inject(self) -> None:
        data = self.image.data
        files = {
            _HOSTS_FILE: _HOSTS,
            **self._host.credentials.files(self.image.file_if_there(CONFIG)),
            **{pod.place: pod.text() for pod in self.order.pods},
            **self.order.files,
        }
        size = self.image.table.sector_size
        overlay.inject(
            self._overlay, self.image.path, data.first * size, data.sectors * size, files, self._folder / "scratch.raw"
        )
        for pod in self.order.pods:
            manifests = self.artifacts / "manifests"
            manifests.mkdir(exist_ok=True)
            (manifests / pod.file).write_bytes(pod.text())
        listed = {str(path): len(content) for path, content in files.items()}
        (self.artifacts / "injected.json").write_text(json.dumps(listed, indent=1) + "\n")
