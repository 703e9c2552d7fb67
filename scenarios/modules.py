"""Kernel modules that the node pod loads do what they are for (kiOS documentation, Static Pods: Load Kernel Modules)."""

from pathlib import Path, PurePosixPath

import pytest

from harness.errors import fails_with
from harness.lab.maker import NewNode
from harness.manifests.pods import load
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
NODE_POD = load(MANIFESTS / "node.yaml")
FAREWELL_POD = load(MANIFESTS / "farewell.yaml")
# Executed by the kernel, it prints itself; run by a shell instead, it prints that.
SCRIPT = "printf '#!/bin/cat\\necho run by a shell\\n' > /tmp/script; chmod +x /tmp/script; execve /tmp/script"
ENOEXEC = 8

pytestmark = pytest.mark.needs_module("tiny-power-button", "binfmt_script")


def test_without_the_modules_nothing_works(ready_node: NewNode, image: Disk) -> None:
    """Scripts and the power button need their modules; if not, the scenarios below prove nothing about the manifest."""
    node = ready_node(image, [])
    assert node.run(SCRIPT).status == ENOEXEC
    node.boot.press_power_button()
    node.succeed("sleep 5")


@pytest.mark.presubmit
def test_script_executes(ready_node: NewNode, image: Disk) -> None:
    """A script executes once `binfmt_script` is loaded; if not, containers fail with `exec format error`."""
    node = ready_node(image, [NODE_POD])
    assert {"tiny_power_button", "binfmt_script"} <= node.modules()
    assert node.succeed(SCRIPT) == "#!/bin/cat\necho run by a shell\n"


@pytest.mark.presubmit
@pytest.mark.generation("a", cannot="the data partition is unmounted in order: none is mounted")
def test_power_button_ends_the_node_in_order(ready_node: NewNode, image: Disk) -> None:
    """The power button ends pods and unmounts the disk in order; if not, pressing it cuts them off in the middle of work."""
    node = ready_node(image, [NODE_POD])
    node.add(FAREWELL_POD)
    node.wait_until_ready()
    disk = node.power_off()
    assert disk.file(PurePosixPath("/meta/log/farewell")) == b"stopped in order\n"
    assert disk.superblock().clean, "the data partition was not unmounted"
    disk.check_filesystem()


def test_module_that_does_not_exist_is_named(ready_node: NewNode, image: Disk) -> None:
    """A misspelt module fails the pod with its name; if not, a node without a network gives no reason for it."""
    node = ready_node(image, [])
    node.add(NODE_POD.with_args("modprobe", ["-a", "tiny-power-buton", "virtio_pci", "virtio_net"]))
    with fails_with(r"container modprobe of pod node ended with status 1: .*tiny-power-buton"):
        node.wait_until_ready()
