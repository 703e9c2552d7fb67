"""Faults of the machine: its CPUs, its card, its memory, its clock."""

from collections.abc import Callable

from faults.fault import Fault
from faults.sabotage import InTheBoot, Qemu, command
from faults.stage import Stage
from harness.errors import Party
from harness.verdict.timeline import KERNEL

_COLD = "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up"


def _instead(old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda argv: [word.replace(old, new) for word in argv]


def _without_device(start: str) -> Callable[[list[str]], list[str]]:
    def edit(argv: list[str]) -> list[str]:
        at = next(number for number, word in enumerate(argv) if word.startswith(start))
        return [*argv[: at - 1], *argv[at + 1 :]]

    return edit


def _booting(how: Qemu | InTheBoot, words: str) -> Fault:
    return Fault(_COLD, how, words, stage=Stage.BOOTING)


def _starting(how: Qemu | InTheBoot, words: str) -> Fault:
    return Fault(_COLD, how, words, stage=Stage.STARTING)


FAULTS = {
    "machine-card": Fault(
        "machine.py::test_intel_card_has_the_lease",
        command("cd /sys/bus/pci/drivers/e1000e && echo 0000:* > unbind"),
        "readlink /sys/class/net/eth0/device/driver` ended with status 1",
    ),
    "machine-cpus": Fault(
        "machine.py::test_both_cpus_work_for_pods",
        command("echo 0 > /sys/devices/system/cpu/cpu1/online"),
        "pods may use 1 CPUs of 2",
    ),
    "machine-memory": _booting(
        Qemu("a machine of 512 MiB", lambda argv: ["512M" if word == "1024M" else word for word in argv]),
        "kernel panic: .*memory",
    ),
    "machine-disk": _booting(Qemu("a machine without a disk", _without_device("nvme,")), "found nothing to boot"),
    "machine-writes": _starting(
        Qemu(
            "a disk that cannot be written to",
            _instead(
                "driver=qcow2,node-name=disk,",
                "driver=blkdebug,node-name=disk,inject-error.0.event=none,inject-error.0.iotype=write,"
                "inject-error.0.errno=5,image.driver=qcow2,image.",
            ),
        ),
        "(input/output|filesystem) error on nvme0n1",
    ),
    "machine-no-card": _starting(Qemu("a machine without a NIC", _without_device("virtio-net-pci,")), "NIC"),
    "machine-other-card": _starting(
        Qemu("a NIC for which the pod loads no driver", _instead("virtio-net-pci,", "rtl8139,")), "NIC|driver"
    ),
    "machine-cable": _starting(
        InTheBoot("a cable that is taken out as the kernel starts", KERNEL, lambda node: node.wire.unplug()), "no carrier"
    ),
    "machine-clock": _starting(Qemu("a clock of 2010", _instead("base=utc", "base=2010-01-01T00:00:00")), "clock"),
    "machine-reset": Fault(
        _COLD,
        InTheBoot("a machine that is reset as the kernel starts", KERNEL, lambda node: node.boot.qmp.execute("system_reset")),
        "host-qmp-system-reset",
        Party.HOST,
        Stage.BOOTING,
    ),
}
