"""Faults of the machine: its CPUs, its card, its disk, its memory, its clock."""

from collections.abc import Callable
from typing import Any

from faults.fault import Fault
from faults.sabotage import InTheBoot, Qemu, command
from faults.scenario import COLD
from faults.stage import Stage
from harness.errors import Party
from harness.lab.node import Node
from harness.verdict.timeline import KERNEL
from harness.vm.machine import DISK


def _instead(old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda argv: [word.replace(old, new) for word in argv]


def _failing(disk: str) -> str:
    """A disk whose writes fail (QEMU, docs/devel/testing/blkdebug)."""
    below = ",".join(f"image.{word}" for word in disk.split(",") if not word.startswith("node-name="))
    rule = "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=5"
    return f"driver=blkdebug,node-name=disk,{rule},{below}"


def _without_device(start: str) -> Callable[[list[str]], list[str]]:
    def edit(argv: list[str]) -> list[str]:
        at = next(number for number, word in enumerate(argv) if word.startswith(start))
        return [*argv[: at - 1], *argv[at + 1 :]]

    return edit


def _slow_down(node: Node) -> None:
    """QEMU, qapi/block-core.json: one request a second, as of now."""
    told: Any = node.boot.qmp.execute("query-block")
    [disk] = [each["qdev"] for each in told if each.get("inserted", {}).get("node-name") == DISK]
    unbound = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
    node.boot.qmp.execute("block_set_io_throttle", {"id": disk, "iops": 1, **unbound})


def _booting(how: Qemu | InTheBoot, words: str) -> Fault:
    return Fault(COLD, how, words, stage=Stage.BOOTING)


def _starting(how: Qemu | InTheBoot, words: str) -> Fault:
    return Fault(COLD, how, words, stage=Stage.STARTING)


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
        "kernel panic: write error",
    ),
    "machine-writes": _booting(
        Qemu(
            "a disk that cannot be written to",
            lambda argv: [_failing(word) if "node-name=disk," in word else word for word in argv],
        ),
        "(input/output|filesystem) error on nvme0n1",
    ),
    "machine-no-disk": _booting(
        Qemu("a machine without a disk", _without_device("nvme,")),
        "the firmware found nothing to boot.*; the machine has no disk",
    ),
    "machine-slow-disk": Fault(
        COLD,
        InTheBoot("a disk that does one thing a second as the kernel starts", KERNEL, _slow_down),
        "the host's disk is too slow: a request takes",
        Party.HOST,
        Stage.BOOTING,
    ),
    "machine-clock": Fault(
        COLD,
        Qemu("a clock of 2016", _instead("base=utc", "base=2016-01-01T00:00:00")),
        "the node's clock is wrong: it says 2016-01-01, .* behind",
    ),
    "machine-clock-ahead": Fault(
        "boot.py::test_image_boots_as_at_a_users",
        Qemu("a clock of 2037", _instead("base=utc", "base=2037-01-01T00:00:00")),
        "the node's clock is wrong: it says 2037-01-01, .* ahead",
        # An image that is silent at first never tells of its first milestones.
        stage=Stage.STARTING,
    ),
    "machine-other-disk": _booting(
        Qemu("a disk for which the kernel has no driver", _instead("nvme,serial=kios-e2e,", "virtio-blk-pci,")),
        "init has named no data partition: one that looks for it has not found it",
    ),
    "machine-no-card": _starting(Qemu("a machine without a NIC", _without_device("virtio-net-pci,")), "the machine has no NIC"),
    "machine-other-card": _starting(
        Qemu("a NIC for which the pod loads no driver", _instead("virtio-net-pci,", "rtl8139,")),
        "milestone node/dhcpcd: .*ended with status 1: .*no driver has made one of its NIC",
    ),
    "machine-reset": Fault(
        COLD,
        InTheBoot("a machine that is reset as the kernel starts", KERNEL, lambda node: node.boot.qmp.execute("system_reset")),
        "host-qmp-system-reset",
        Party.HOST,
        Stage.BOOTING,
    ),
}
