"""Faults of the harness's own world: QEMU, the host, other runs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from faults.fault import Fault
from faults.sabotage import Act, OneForAll, Outside, Qemu, Surroundings
from faults.stage import Stage
from harness.errors import Party
from harness.lab.node import Node

_UP = "modules.py::test_script_executes"
_COLD = "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up"


def _on_qemu(words: str, do: Callable[[Node], object], says: str) -> Fault:
    return Fault(_UP, Act(words, do), says, Party.HOST)


def _signal(number: signal.Signals) -> Callable[[Node], object]:
    return lambda node: os.kill(node.boot.process.pid, number)


def _qmp(command: str) -> Callable[[Node], object]:
    return lambda node: node.boot.qmp.execute(command)


def _with_options(*words: str) -> Outside:
    return Outside(f"options: `{' '.join(words)}`", lambda folder, image: Surroundings(options=words))


def _deep(folder: Path, image: Path) -> Surroundings:
    deep = folder / "/".join(["a-folder-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    return Surroundings({"TMPDIR": str(deep)})


def _little_room(folder: Path, image: Path) -> Surroundings:
    """A mount of its own, which nobody else sees and which ends with the run."""
    mounted = 'mount -t tmpfs -o size=64m none "$TMPDIR" && exec "$@"'
    return Surroundings({"TMPDIR": str(folder)}, before=("unshare", "-rm", "sh", "-c", mounted, "sh"))


FAULTS = {
    "clone-shared": Fault("clone.py::test_ready_node_is_nobody_elses", OneForAll(), "/host/var/log/mine"),
    "qemu-killed": _on_qemu("QEMU is killed", _signal(signal.SIGKILL), "QEMU died with status -9"),
    "qemu-ended": _on_qemu("QEMU is ended by a signal", _signal(signal.SIGTERM), r"the host ended it: .*\(host-signal"),
    "qemu-stopped": _on_qemu("QEMU is stopped by a signal", _signal(signal.SIGSTOP), "QEMU's process was stopped by a signal"),
    "qemu-quit": _on_qemu("QEMU is ended by QMP", _qmp("quit"), r"the host ended it: .*\(host-qmp-quit"),
    "qemu-paused": _on_qemu("the machine is paused by QMP", _qmp("stop"), "its CPUs were stopped"),
    "qemu-reset": _on_qemu("the machine is reset by QMP", _qmp("system_reset"), "host-qmp-system-reset"),
    "qemu-aborts": Fault(
        _COLD,
        Qemu("QEMU is given an option that it does not have", lambda argv: [*argv, "-nonsense"]),
        "QEMU died with status 1: .*nonsense",
        Party.HOST,
        Stage.BEFORE,
    ),
    "host-room": Fault(
        _UP,
        Outside("64 MiB of room for the nodes' disks", _little_room),
        "MiB are free there: make room",
        Party.HOST,
        Stage.BEFORE,
    ),
    "host-memory": Fault(_UP, _with_options("--memory", "900G"), "900", Party.TEST, Stage.BEFORE),
    "host-artifacts": Fault(_UP, _with_options("--artifacts", "/proc/nowhere"), "/proc/nowhere", Party.TEST, Stage.BEFORE),
    "host-qemu": Fault(_UP, _with_options("--qemu", "/nowhere/qemu"), "/nowhere/qemu", Party.HOST, Stage.BEFORE),
    "host-nic": Fault(_UP, _with_options("--nic", "ne2000"), "ne2000", Party.TEST, Stage.BEFORE),
    "host-deep": Fault(_UP, Outside("a deep TMPDIR", _deep), "", None),
    "host-no-home": Fault(_UP, Outside("no HOME", lambda folder, image: Surroundings(before=("env", "-u", "HOME"))), "", None),
    "host-optimised": Fault(_UP, Outside("python -O", lambda folder, image: Surroundings(interpreter=("-O",))), "", None),
}
