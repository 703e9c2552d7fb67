"""What a node writes is on its data partition, and outlives its power (kiOS: the layout of the data partition)."""

from pathlib import Path, PurePosixPath

import pytest

from harness.lab.maker import NewNode
from harness.manifests.pods import load
from harness.storage.disk import Disk

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
# On the node, and on the partition.
PLACES = {
    "/etc/kept": "/meta/etc/kept",
    "/var/log/kept": "/meta/log/kept",
    "/var/lib/containers/storage/kept": "/data/oci/kept",
}

pytestmark = pytest.mark.generation("a", cannot="what is written on a node outlives its power-off")


def test_what_is_written_is_at_its_place(ready_node: NewNode, image: Disk) -> None:
    """All that a node writes is at its place on the data partition; if not, settings and logs go with the power."""
    node = ready_node(image, [NODE_POD])
    node.succeed(" && ".join(f"echo {place} > /host{place}" for place in PLACES))
    node.fail("touch /host/lib/modules/kept")
    pods = set(node.succeed("ls /host/var/lib/kubelet/pods").split())
    disk = node.power_off()
    for place, on_disk in PLACES.items():
        written = disk.file(PurePosixPath(on_disk))
        assert written == f"{place}\n".encode(), f"{on_disk} has {written!r}, not what was written to {place}"
    assert pods <= set(disk.folder(PurePosixPath("/data/pods"))), "the pods' own folders are not on the data partition"


def test_a_power_cut_loses_nothing_that_was_written(ready_node: NewNode, image: Disk) -> None:
    """A node whose power was cut comes up with all that was written before; if not, each power cut costs a visit to it."""
    node = ready_node(image, [NODE_POD])
    node.succeed("echo kept > /host/var/log/kept && sync")
    node.boot.close()
    assert node.disk().superblock().needs_recovery, "the data partition was unmounted: its power was not cut"
    node.start()
    node.wait_until_ready()
    kept = node.read("/var/log/kept")
    assert kept == b"kept\n", f"the power cut left {kept!r} of what was written"
    disk = node.power_off()
    assert disk.superblock().clean, "the data partition was not unmounted"
    disk.check_filesystem()
