"""Faults of the harness's own world: QEMU, the host, other runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faults.fault import Fault
from faults.mute_qmp import MuteQmp
from faults.sabotage import Act, OneForAll, Outside, Qemu, Surroundings
from faults.scenario import COLD, UP
from faults.stage import Stage
from harness.errors import Party
from harness.lab.node import Node


def _on_qemu(words: str, do: Callable[[Node], object], says: str) -> Fault:
    return Fault(UP, Act(words, do), says, Party.HOST)


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


# As programs of the shell's, which have the run of pytest as their arguments.
_READ_ONLY = 'mount --bind "$PWD" "$PWD" && mount -o remount,bind,ro "$PWD" && cd "$PWD" && exec "$@"'
_TWICE = '"$@" --junitxml "$TMPDIR/other.xml" & "$@"; mine=$?; wait $! && exit $mine'


def _in_shell(words: str, program: str, *before: str) -> Outside:
    return Outside(
        words, lambda folder, image: Surroundings({"TMPDIR": str(folder)}, before=(*before, "sh", "-c", program, "sh"))
    )


def _steal_cpu(node: Node) -> None:
    """QEMU has one CPU, and somebody more important as well."""
    cpu, qemu = min(os.sched_getaffinity(0)), node.boot.process.pid
    somebody = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", "while True: pass"]
    os.sched_setaffinity(subprocess.Popen(somebody).pid, {cpu})
    for thread in Path(f"/proc/{qemu}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)
    # Where sessions share the CPUs first (sched(7), the autogroup feature).
    if (group := Path(f"/proc/{qemu}/autogroup")).exists():
        group.write_text("19")


def _without_kvm(argv: list[str]) -> list[str]:
    at = argv.index("-accel") + 1
    return [*argv[:at], "kvm,device=/dev/null", *argv[at + 1 :]]


FAULTS = {
    "clone-shared": Fault("clone.py::test_ready_node_is_nobody_elses", OneForAll(), "/host/var/log/mine"),
    "qemu-killed": _on_qemu("QEMU is killed", _signal(signal.SIGKILL), "QEMU died with status -9"),
    "qemu-ended": _on_qemu("QEMU is ended by a signal", _signal(signal.SIGTERM), r"the host ended it: .*\(host-signal"),
    "qemu-stopped": _on_qemu("QEMU is stopped by a signal", _signal(signal.SIGSTOP), "QEMU's process was stopped by a signal"),
    "qemu-quit": _on_qemu("QEMU is ended by QMP", _qmp("quit"), r"the host ended it: .*\(host-qmp-quit"),
    "qemu-paused": _on_qemu("the machine is paused by QMP", _qmp("stop"), "its CPUs were stopped"),
    "qemu-mute": Fault(
        "modules.py::test_power_button_ends_the_node_in_order",
        MuteQmp(),
        "QMP command system_powerdown: no reply within",
        Party.HOST,
    ),
    "qemu-reset": _on_qemu("the machine is reset by QMP", _qmp("system_reset"), "host-qmp-system-reset"),
    "qemu-aborts": Fault(
        COLD,
        Qemu("QEMU is given an option that it does not have", lambda argv: [*argv, "-nonsense"]),
        "QEMU died with status 1: .*nonsense",
        Party.HOST,
        Stage.BEFORE,
    ),
    "host-kvm": Fault(
        COLD, Qemu("a KVM that does not answer", _without_kvm), "failed to initialize kvm", Party.HOST, Stage.BEFORE
    ),
    "host-cpu": Fault(
        "dhcp.py::test_settings_outlive_dhcpcd_and_the_hostname",
        Act("its CPU is taken", _steal_cpu),
        "the host was too busy: QEMU waited",
        Party.HOST,
    ),
    "host-short": Fault(
        UP,
        Outside("1 GiB of memory for a process", lambda folder, image: Surroundings(before=("prlimit", f"--as={1 << 30}"))),
        "Cannot allocate memory",
        Party.HOST,
        Stage.BEFORE,
    ),
    "host-room": Fault(
        UP,
        Outside("64 MiB of room for the nodes' disks", _little_room),
        "MiB are free there: make room",
        Party.HOST,
        Stage.BEFORE,
    ),
    "host-memory": Fault(UP, _with_options("--memory", "900G"), "900", Party.TEST, Stage.BEFORE),
    "host-artifacts": Fault(UP, _with_options("--artifacts", "/proc/nowhere"), "/proc/nowhere", Party.TEST, Stage.BEFORE),
    "host-qemu": Fault(UP, _with_options("--qemu", "/nowhere/qemu"), "/nowhere/qemu", Party.HOST, Stage.BEFORE),
    "host-nic": Fault(UP, _with_options("--nic", "ne2000"), "ne2000", Party.TEST, Stage.BEFORE),
    "host-two": Fault(UP, _in_shell("two runs at once", _TWICE), "", None),
    "host-read-only": Fault(UP, _in_shell("a checkout that is read-only", _READ_ONLY, "unshare", "-rm"), "", None),
    "host-deep": Fault(UP, Outside("a deep TMPDIR", _deep), "", None),
    "host-no-home": Fault(UP, Outside("no HOME", lambda folder, image: Surroundings(before=("env", "-u", "HOME"))), "", None),
    "host-optimised": Fault(UP, Outside("python -O", lambda folder, image: Surroundings(interpreter=("-O",))), "", None),
}
