"""Faults of the image, and of the disk and its growth."""

import os
from collections.abc import Callable
from pathlib import Path

from faults.edits import SMALL, with_command
from faults.fault import Fault
from faults.sabotage import BeforeTheStart, Edit, NothingToGrow, OnTheDisk, OnVariant, Outside, Surroundings, command, of_image
from faults.scenario import COLD
from faults.stage import Stage
from harness import tools
from harness.errors import Party
from harness.lab.node import Node
from harness.storage import esp, gpt
from harness.storage.disk import open_image

_RESIZE2FS = "  - name: resize2fs\n"
_GROWERS = (
    "  - name: grower\n    image: docker.io/emilyls/parted:v2\n    securityContext: {privileged: true}\n"
    "    args: [-sf, /dev/nvme0n1, resizepart, '2', 100%]\n"
    "  - name: enlarger\n    image: docker.io/emilyls/resize2fs:v1\n    securityContext: {privileged: true}\n"
    "    args: [/dev/nvme0n1p2]\n"
)
_LOADER = f"::{esp.LOADER}"


def _refused(how: Outside, words: str, party: Party = Party.NODE) -> Fault:
    return Fault(COLD, how, words, party, Stage.BEFORE)


def _with_file(content: bytes) -> Callable[[Path, Path], Surroundings]:
    def make(folder: Path, image: Path) -> Surroundings:
        file = folder / "image.img"
        file.write_bytes(content)
        return Surroundings(options=("--kios-image", str(file)))

    return make


def _overwrite(image: Path, at: int, content: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(at)
        file.write(content)


def _cut(image: Path) -> None:
    os.truncate(image, image.stat().st_size // 2)


def _without_filesystem(image: Path) -> None:
    disk = open_image(image)
    _overwrite(image, disk.extent(disk.data)[0], bytes(1 << 16))


def _of_another_type(image: Path) -> None:
    tools.run("sfdisk", "-q", "--part-type", image, "2", "0FC63DAF-8483-4772-8E79-3D69D8477DE4")


def _with_loader(image: Path, content: bytes) -> None:
    disk = open_image(image)
    loader = image.with_suffix(".efi")
    loader.write_bytes(content)
    tools.run("mcopy", "-o", "-i", esp.drive(disk), loader, _LOADER)


def _without_loader(image: Path) -> None:
    disk = open_image(image)
    tools.run("mdel", "-i", esp.drive(disk), _LOADER)


def _cut_loader(image: Path) -> None:
    disk = open_image(image)
    loader = image.with_suffix(".efi")
    tools.run("mcopy", "-n", "-i", esp.drive(disk), _LOADER, loader)
    _with_loader(image, loader.read_bytes()[: 1 << 20])


def _full(image: Path) -> None:
    disk = open_image(image)
    at, part = disk.extent(disk.data)[0], image.with_suffix(".p2")
    tools.run("dd", f"if={image}", f"of={part}", "bs=1M", f"skip={at}", "iflag=skip_bytes", "conv=sparse")
    filler = image.with_suffix(".filler")
    filler.write_bytes(b"\xff" * disk.superblock().size)
    # It writes as much as there is room for, and says that the rest has none.
    tools.run("debugfs", "-w", "-R", f"write {filler} filler", part)
    tools.run("dd", f"if={part}", f"of={image}", "bs=1M", f"seek={at}", "oflag=seek_bytes", "conv=notrunc")


def _without_superblock(node: Node) -> None:
    """What a user has on a disk whose filesystem went to pieces since: 1 KiB of it, 1 KiB behind its beginning."""
    image = node.order.image
    at = image.data.first * image.table.sector_size + 1024
    tools.run("qemu-io", "-f", "qcow2", "-c", f"write -P 0 {at} 1024", node.overlay)


def _with_two_data_partitions(image: Path) -> None:
    os.truncate(image, image.stat().st_size + (8 << 20))
    tools.run("sfdisk", "-q", "--relocate", "gpt-bak-std", image)
    number = len(open_image(image).table.partitions) + 1
    tools.run("sh", "-c", 'echo "size=4MiB" | sfdisk -q --append "$1"', "sh", image)
    tools.run("sfdisk", "-q", "--part-type", image, str(number), str(gpt.DATA_PARTITION))


_NO_LOADER = of_image("an image without `EFI/Boot/Bootx64.efi`", _without_loader)

FAULTS = {
    "boot-loader": Fault(
        COLD,
        _NO_LOADER,
        "the firmware found nothing to boot.*; the disk's ESP has no EFI/Boot",
        stage=Stage.BOOTING,
    ),
    "boot-text": Fault(
        COLD,
        of_image("a text file in the place of the EFI binary", lambda image: _with_loader(image, b"#!/bin/sh\necho kiOS\n")),
        "the firmware found nothing to boot.*; the disk's EFI/Boot/Bootx64.efi is no EFI binary",
        stage=Stage.BOOTING,
    ),
    "boot-user": Fault(
        "boot.py::test_image_boots_as_at_a_users",
        _NO_LOADER,
        "milestone firmware: it did not happen.*; the disk's ESP has no EFI/Boot/Bootx64.efi",
        stage=Stage.BOOTING,
    ),
    "boot-crio": Fault(
        COLD,
        OnTheDisk("/meta/etc/crio/crio.conf", "[crio.runtime"),
        "crio ended 4 times within .*crio's own words: .*unable to decode configuration",
        stage=Stage.BOOTING,
    ),
    "boot-kubelet": Fault(
        "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up",
        OnTheDisk("/meta/etc/kubernetes/config.yaml", "kind: Nonsense"),
        "kubelet ended 4 times within",
        stage=Stage.BOOTING,
    ),
    "memory-grows": Fault(
        "in_memory.py::test_a_disk_that_was_never_mounted_grows[512]",
        SMALL,
        "partition 2 does not end at the last usable sector",
    ),
    "init-labels": Fault(
        "init.py::test_labels_reach_the_kubelet",
        # As a kiOS whose buffer for labels was never emptied has it.
        OnTheDisk("/meta/etc/kubernetes/node-labels", "kubernetes.io/garbage: x"),
        "kubelet's own words.*--node-labels",
        stage=Stage.BOOTING,
    ),
    "data-place": Fault(
        "data.py::test_what_is_written_is_at_its_place",
        command("touch /host/etc/kept /tmp/kept && mount -o bind /tmp/kept /host/etc/kept"),
        "/meta/etc/kept has b'', not what was written",
    ),
    "data-power": Fault(
        "data.py::test_a_power_cut_loses_nothing_that_was_written",
        command("touch /host/var/log/kept /tmp/kept && mount -o bind /tmp/kept /host/var/log/kept"),
        "the power cut left b'' of what was written",
    ),
    "bundle-disk": Fault(
        "bundle.py::test_failed_node_of_another_qemu_boots_its_disk",
        command("touch /host/etc/written /tmp/written && mount -o bind /tmp/written /host/etc/written"),
        "its disk is not as it was left: b''",
    ),
    "resize-table": Fault(
        "resize.py::test_data_partition_fills_a_larger_disk[4]", SMALL, r"the kernel sees partition 2 end \d+ bytes"
    ),
    "resize-content": Fault(
        "resize.py::test_disk_of_the_images_size_is_left_alone",
        command("echo > /host/etc/keepsakes/1"),
        "keepsakes/1 changed in the resize",
    ),
    "resize-again": Fault("resize.py::test_second_boot_finds_nothing_to_do", SMALL, "partition 2 did not grow"),
    "resize-2-tib": Fault("resize.py::test_sparse_disk_of_2_tib", SMALL, r"the kernel sees partition 2 end \d+ bytes"),
    "resize-4096": Fault("resize.py::test_disk_with_4096_byte_blocks", SMALL, r"the kernel sees partition 2 end \d+ bytes"),
    "resize-parted": Fault(
        "resize.py::test_without_parted_the_partition_is_named",
        Edit(_RESIZE2FS, f"{_GROWERS}{_RESIZE2FS}"),
        "does not fail as it should: the kernel sees partition 2 end",
    ),
    "resize-resize2fs": Fault(
        "resize.py::test_without_resize2fs_the_filesystem_is_named",
        NothingToGrow(),
        "does not fail as it should: bytes of filesystem in",
    ),
    "resize-number": Fault(
        "resize.py::test_wrong_partition_number_fails_the_container",
        with_command("docker.io/emilyls/parted:v2", "[parted, --version]"),
        "does not fail as it should: container parted of pod node",
    ),
    "resize-nothing": Fault(
        "resize.py::test_disk_of_the_images_size_is_left_alone",
        OnVariant("a"),
        r"container resize2fs of pod node ended with status 1(?!.*too many block group)",
        stage=Stage.STARTING,
    ),
    "resize-2-tib-of-1-kib": Fault(
        "resize.py::test_sparse_disk_of_2_tib", OnVariant("a"), "too many block group descriptors", stage=Stage.STARTING
    ),
    "disk-cut": _refused(of_image("an image that was cut off", _cut), "it is truncated", Party.TEST),
    "disk-table": _refused(
        of_image("an image without a partition table", lambda image: _overwrite(image, 512, bytes(34 * 512))),
        "is not a GPT disk image",
        Party.TEST,
    ),
    "disk-boot-sector": _refused(
        of_image("an image without its protective MBR", lambda image: _overwrite(image, 510, bytes(2))),
        "protective MBR is missing",
        Party.TEST,
    ),
    "disk-filesystem": _refused(
        of_image("a data partition without a filesystem", _without_filesystem), "has no ext4 file system at byte"
    ),
    "disk-type": _refused(of_image("a data partition of another type", _of_another_type), "has no data partition", Party.TEST),
    "disk-twice": _refused(
        of_image("a second data partition", _with_two_data_partitions), "has 2 partitions of type", Party.TEST
    ),
    "disk-full": _refused(of_image("a data partition that is full", _full), "room|full"),
    "disk-empty": _refused(Outside("an empty file in the place of the image", _with_file(b"")), "is an empty file", Party.TEST),
    "disk-unmountable": Fault(
        COLD,
        BeforeTheStart("a data partition that has lost its superblock", _without_superblock),
        "init cannot mount the data partition",
        stage=Stage.BOOTING,
    ),
    "disk-loader-cut": Fault(
        COLD,
        of_image("an EFI binary that was cut off", _cut_loader),
        r"refused the EFI binary \(Unsupported",
        stage=Stage.BOOTING,
    ),
}
