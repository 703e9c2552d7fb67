"""udev as a static pod loads drivers for what is plugged in (kiOS documentation, Static Pods: udev)."""

from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
NODE_POD, UDEV_POD = MANIFESTS / "node.yaml", MANIFESTS / "udev.yaml"
# A card whose driver is on the node, and is loaded by udev alone.
DRIVER, MAC = "igb", "52:54:00:75:64:76"

pytestmark = pytest.mark.needs_module(DRIVER)


def test_hot_plugged_card_gets_its_driver(ready_node: NewNode, image: Disk) -> None:
    """A card that is plugged in gets its driver; if not, what a user plugs in stays dead, udev or not."""
    node = ready_node(image, [NODE_POD])
    node.add(UDEV_POD)
    node.wait_until_ready()
    node.wire.insert_card(DRIVER, MAC)
    node.until(lambda: has_eth1(node), f"{DRIVER} has made eth1 of the card")
    shown = node.succeed("readlink /sys/class/net/eth1/device/driver && cat /sys/class/net/eth1/address").splitlines()
    assert (shown[0].rpartition("/")[2], shown[1]) == (DRIVER, MAC)


def test_without_udev_it_has_none(ready_node: NewNode, image: Disk) -> None:
    """Nothing but udev loads that driver; if something does, the scenario above proves nothing."""
    node = ready_node(image, [NODE_POD])
    node.wire.insert_card(DRIVER, MAC)
    card = "/sys/bus/pci/devices/0000:01:00.0"
    node.until(lambda: node.run(f"grep 0x8086 {card}/vendor").status == 0, "the card is seen")
    # By the node's own clock, so that a busy host does not shorten it.
    node.succeed("sleep 5")
    assert node.run(f"ls {card}/driver").status != 0, "the card has a driver that udev did not load"


def has_eth1(node: Node) -> bool:
    """Whether the node has a second network interface."""
    return node.run("test -e /sys/class/net/eth1").status == 0
