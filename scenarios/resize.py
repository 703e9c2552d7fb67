"""The data partition and its filesystem grow to the whole disk (kiOS documentation, Static Pods: Resize Disk).

The node pod is the page's own, completed so that it runs; the result is read from the disk after an orderly power-off.
"""

import hashlib
import random
from pathlib import Path, PurePosixPath

import pytest

from harness.errors import fails_with
from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
TIB = 1 << 40
# Its largest size in the filesystem of so small an image.
JOURNAL = 16 << 20
# Files that must survive the resize unharmed: empty, small, and large.
KEEPSAKES = {
    PurePosixPath(f"/meta/etc/keepsakes/{size}"): random.Random(size).randbytes(size) for size in (0, 1, 4096, 5_000_000)
}


@pytest.mark.generation("a", cannot="the running filesystem grows with the disk: nothing of the node is on it")
@pytest.mark.parametrize("times", [2, pytest.param(4, marks=pytest.mark.presubmit), 16])
def test_data_partition_fills_a_larger_disk(new_node: NewNode, image: Disk, times: int) -> None:
    """Partition 2 and its filesystem fill a larger disk; if not, the node runs out of space on a disk that is nearly empty."""
    node = new_node(image, [NODE_POD], disk_size=times * image.size, files=KEEPSAKES)
    node.start()
    node.wait_until_ready()
    assert_kernel_sees_a_full_disk(node)
    assert_grown_to_the_whole_disk(node.power_off(), image)


@pytest.mark.generation("a", cannot="a disk that was mounted is checked and left alone: resize2fs wants e2fsck -f first")
def test_disk_of_the_images_size_is_left_alone(new_node: NewNode, image: Disk) -> None:
    """A disk with nothing to grow is left alone; if not, a node on it never gets past its init containers."""
    node = new_node(image, [NODE_POD], disk_size=image.size, files=KEEPSAKES)
    node.start()
    node.wait_until_ready()
    assert_grown_to_the_whole_disk(node.power_off(), image)


@pytest.mark.generation("a", cannot="a second boot runs the same pod: resize2fs wants e2fsck -f once a disk was mounted")
def test_second_boot_finds_nothing_to_do(ready_node: NewNode, image: Disk) -> None:
    """A second boot finds nothing to do; if not, a node comes up once and never again."""
    node = ready_node(image, [NODE_POD], disk_size=4 * image.size, files=KEEPSAKES)
    grown = node.power_off()
    node.start()
    node.wait_until_ready()
    again = node.power_off()
    assert again.path != grown.path
    assert again.table == grown.table
    assert again.superblock().blocks == grown.superblock().blocks
    assert_grown_to_the_whole_disk(again, image)


@pytest.mark.generation("a", cannot="the running filesystem fills 2 TiB: nothing of the node is on it")
def test_sparse_disk_of_2_tib(new_node: NewNode, image: Disk) -> None:
    """A disk of 2 TiB, more than a protective MBR can count, is filled too; if not, large volumes stay small."""
    node = new_node(image, [NODE_POD], disk_size=2 * TIB, files=KEEPSAKES)
    node.start()
    node.wait_until_ready()
    assert_kernel_sees_a_full_disk(node)
    assert_grown_to_the_whole_disk(node.power_off(), image)


@pytest.mark.generation("a", cannot="the running filesystem grows with the disk: nothing of the node is on it")
def test_disk_with_4096_byte_blocks(new_node: NewNode, image_4k: Disk) -> None:
    """A disk of 4096-byte blocks is filled too; if not, nodes on such drives lose their partition table."""
    node = new_node(image_4k, [NODE_POD], disk_size=4 * image_4k.size, files=KEEPSAKES)
    node.start()
    node.wait_until_ready()
    assert_kernel_sees_a_full_disk(node)
    assert_grown_to_the_whole_disk(node.power_off(), image_4k)


def test_without_parted_the_partition_is_named(ready_node: NewNode, image: Disk) -> None:
    """A pod without parted is recognised by the partition that stays small; if not, it passes for one that grows the disk."""
    node = ready_node(image, [])
    # resize2fs fails if the partition has not grown and its filesystem fills it.
    node.add(NODE_POD.without("parted").without("resize2fs"))
    node.wait_until_ready()
    with fails_with("the kernel sees partition 2 end"):
        assert_kernel_sees_a_full_disk(node)
    disk = node.power_off()
    with fails_with("partition 2 did not grow"):
        assert_grown_to_the_whole_disk(disk, image)


@pytest.mark.generation("a", cannot="the running filesystem grows with the disk: nothing of the node is on it")
def test_without_resize2fs_the_filesystem_is_named(ready_node: NewNode, image: Disk) -> None:
    """A pod without resize2fs is recognised by the filesystem that stays small; if not, users are promised room they lack."""
    node = ready_node(image, [])
    node.add(NODE_POD.without("resize2fs"))
    node.wait_until_ready()
    with fails_with("bytes of filesystem in"):
        assert_kernel_sees_a_full_disk(node)
    disk = node.power_off()
    with fails_with("filesystem did not grow"):
        assert_grown_to_the_whole_disk(disk, image)


def test_wrong_partition_number_fails_the_container(ready_node: NewNode, image: Disk) -> None:
    """A wrong partition number fails its container at once; if not, users wait for a deadline that explains nothing."""
    node = ready_node(image, [])
    node.add(NODE_POD.with_args("parted", ["-sf", "/dev/nvme0n1", "resizepart", "3", "100%"]))
    with fails_with("container parted of pod node ended with status 1"):
        node.wait_until_ready()


def assert_grown_to_the_whole_disk(disk: Disk, image: Disk) -> None:
    """From outside: the table fits the disk, p2 ends at the last usable sector, ext4 fills p2, and nothing was lost."""
    before, after = image.data, disk.data
    assert not disk.table_problems(), f"partition 2 did not grow: {'; '.join(disk.table_problems())}"
    assert after.last == disk.table.last_usable, (
        f"partition 2 did not grow to the last usable sector {disk.table.last_usable}: it ends at {after.last}"
    )
    assert disk.size - (after.last + 1) * disk.table.sector_size < 1 << 20, (
        f"partition 2 did not grow: it ends at sector {after.last} of {disk.table.disk_sectors}"
    )
    assert (after.number, after.first, after.type_guid, after.guid) == (
        before.number,
        before.first,
        before.type_guid,
        before.guid,
    ), "partition 2 was grown, but is not the same partition any more"
    superblock = disk.superblock()
    partition_size = after.sectors * disk.table.sector_size
    assert 0 <= partition_size - superblock.size < superblock.smallest_group, (
        f"the filesystem did not grow: {superblock.size} bytes in a partition of {partition_size}"
    )
    assert superblock.clean, "the data partition was not unmounted clean"
    disk.check_filesystem()
    for path, content in KEEPSAKES.items():
        assert hashlib.sha256(disk.file(path)).digest() == hashlib.sha256(content).digest(), f"{path} changed in the resize"


def assert_kernel_sees_a_full_disk(node: Node) -> None:
    """From inside: the sizes of the disk, p2 and the mounted filesystem, as the running kernel knows them."""
    block = "/sys/class/block"
    sectors = node.succeed(f"cat {block}/nvme0n1/size {block}/nvme0n1p2/start {block}/nvme0n1p2/size")
    disk, start, size = (512 * int(word) for word in sectors.split())
    assert disk == node.order.machine.disk_size, f"the kernel sees a disk of {disk} bytes"
    assert disk - (start + size) < 1 << 20, (
        f"the kernel sees partition 2 end {disk - (start + size)} bytes before the disk's end"
    )
    blocks, block_size = map(int, node.succeed("stat -f -c '%b %S' /host/var/log").split())
    # statfs does not count ext4's own blocks: the journal, and inode tables of at most 1/16.
    assert blocks * block_size + JOURNAL > 0.93 * size, (
        f"the kernel sees {blocks * block_size} bytes of filesystem in {size} of partition"
    )
