"""A node of generation B lives in memory: which of the page's promises it keeps, and what it loses with a power-off.

The page has a data partition; kiOS since April 2025 mounts no disk of its own (docs/generations.md).
"""

from pathlib import Path, PurePosixPath

import pytest

from harness.errors import fails_with
from harness.lab.maker import NewNode
from harness.manifests.pods import load
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
NODE_POD, MOUNT_POD = load(MANIFESTS / "node.yaml"), load(MANIFESTS / "mount.yaml")

pytestmark = pytest.mark.generation("b")


def test_a_disk_is_there_once_its_driver_is_loaded(ready_node: NewNode, image: Disk) -> None:
    """A node has no disk until a pod loads the driver, and mounts none by itself; if not, data is touched unasked."""
    node = ready_node(image, [])
    early = [name for name in node.succeed("ls /sys/class/block").split() if name.startswith("nvme")]
    assert not early, f"the node has {', '.join(early)} before any pod asks for it"
    node.add(NODE_POD)
    node.wait_until_ready()
    assert "nvme" in node.modules()
    assert node.run("test -b /host/dev/nvme0n1p2").status == 0
    assert "/dev/nvme" not in node.succeed("cat /proc/1/mounts"), "a disk is mounted that no pod asked for"


@pytest.mark.parametrize("blocks", [pytest.param("image", marks=pytest.mark.presubmit), "image_4k"], ids=["512", "4096"])
def test_a_disk_that_was_never_mounted_grows(new_node: NewNode, request: pytest.FixtureRequest, blocks: str) -> None:
    """Partition and filesystem of a new disk grow to fill it; if not, pods have less room than a user paid for."""
    image: Disk = request.getfixturevalue(blocks)
    node = new_node(image, [NODE_POD], disk_size=4 * image.size)
    node.start()
    node.wait_until_ready()
    disk = node.power_off()
    assert not disk.table_problems()
    assert disk.data.last == disk.table.last_usable, (
        f"partition 2 does not end at the last usable sector {disk.table.last_usable}, but at {disk.data.last}"
    )
    superblock = disk.superblock()
    assert 0 <= disk.data.sectors * disk.table.sector_size - superblock.size < superblock.smallest_group
    disk.check_filesystem()


def test_power_cycle_forgets_everything(ready_node: NewNode, image: Disk) -> None:
    """Nothing written on a node outlives its power-off; if something does, a user's next boot is not the one tested."""
    node = ready_node(image, [NODE_POD])
    places = ("/etc/kept", "/var/log/kept", "/var/lib/containers/storage/kept")
    node.succeed(" && ".join(f"echo kept > /host{place}" for place in places))
    node.reboot()
    node.wait_until_ready()
    for place in places:
        node.fail(f"test -e /host{place}")
    assert node.succeed("ls /host/var/log/pods/kube-system_node_*/crio").split() == ["0.log"]


def test_pods_end_in_order_and_a_mounted_disk_grows_no_more(ready_node: NewNode, image: Disk) -> None:
    """The power button gives a pod time to unmount its disk; if not, the pod's data is torn. Then resize2fs asks for e2fsck.

    That the page's pod fails on a disk that was mounted once is kiOS's own fault: resize2fs ends with status 1 for ever.
    """
    node = ready_node(image, [NODE_POD])
    node.add(MOUNT_POD)
    node.wait_until_ready()
    disk = node.power_off()
    assert disk.file(PurePosixPath("/farewell")) == b"stopped in order\n"
    assert disk.superblock().clean, "the pod's disk was not unmounted"
    disk.check_filesystem()
    node.start()
    with fails_with(r"(?s)container resize2fs of pod node ended with status 1: .*e2fsck -f"):
        node.wait_until_ready()
