"""The node gets its address by DHCP and keeps it (kiOS documentation, Static Pods: Obtain an IP address)."""

from pathlib import Path

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk
from harness.wire import dhcp
from harness.wire.dhcp import Kind, Lease

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
DHCPCD = "grep -qx dhcpcd /proc/[0-9]*/comm"
RECORD = "cat /host/var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/runtime/db/eth0.lease"


def test_three_sides_of_the_lease_agree(ready_node: NewNode, image: Disk) -> None:
    """Wire, kernel and dhcpcd's record agree on the lease; if not, the node loses its address at the next renewal."""
    node = ready_node(image, [])
    node.add(NODE_POD)
    node.wait_until_ready()
    lease = dhcp.exchange(node.boot.capture, node.order.machine.mac)
    assert node.lease() == dhcp.record_lease(node.run(RECORD).output) == lease
    assert_eth0_has(node, lease)


def test_settings_outlive_dhcpcd_and_the_hostname(ready_node: NewNode, image: Disk) -> None:
    """Address and route outlive dhcpcd and a new hostname; if not, the network goes with the client, which ends at once."""
    node = ready_node(image, [NODE_POD])
    lease = node.lease()
    assert node.run(DHCPCD).status == 1, "dhcpcd still runs"
    assert_eth0_has(node, lease)
    kubelet = node.run("pidof kubelet").text
    assert node.run("printf other > /host/etc/hostname; nsenter -t 1 -u hostname other; kios-system 3").status == 0
    node.until(lambda: node.run("pidof kubelet").text not in ("", kubelet), "another kubelet runs")
    node.until(node.boot.kubelet.answers, "the kubelet answers under the other name")
    assert_eth0_has(node, lease)


def test_without_a_server_the_node_waits_and_recovers(ready_node: NewNode, image: Disk) -> None:
    """A node that is up before its DHCP server waits and recovers; if not, it stays off the network for good."""
    node = ready_node(image, [])
    node.wire.block()
    node.add(NODE_POD)
    node.until(lambda: discovers(node) >= 2, "a second DISCOVER, with no answer to the first")
    assert_waits_for_a_lease(node)
    node.wire.unblock()
    node.wait_until_ready()
    assert_eth0_has(node, dhcp.exchange(node.boot.capture, node.order.machine.mac))


def test_without_a_cable_the_node_waits_and_recovers(ready_node: NewNode, image: Disk) -> None:
    """A node waits for its cable and recovers; if not, a cable that is plugged in late costs a visit to the node."""
    node = ready_node(image, [])
    node.wire.unplug()
    node.add(NODE_POD)
    node.until(lambda: "NO-CARRIER" in node.run("ip link show eth0").text, "eth0 is up without a carrier")
    assert_waits_for_a_lease(node)
    assert discovers(node) == 0, "something was sent over a cable that is not there"
    node.wire.plug()
    node.wait_until_ready()
    assert_eth0_has(node, dhcp.exchange(node.boot.capture, node.order.machine.mac))


def discovers(node: Node) -> int:
    """How often the node has asked who gives addresses."""
    return [message.kind for message in dhcp.messages(node.boot.capture)].count(Kind.DISCOVER)


def assert_waits_for_a_lease(node: Node) -> None:
    """The init container is at work, eth0 has no address, and what comes behind it in the manifest has not begun."""
    assert node.run(DHCPCD).status == 0, "dhcpcd does not run"
    assert "inet " not in node.run("ip -4 address show eth0").text
    begun = set(node.run("ls /host/var/log/pods/kube-system_node_*/").text.split())
    assert not begun & {*NODE_POD.init_containers[2:], *NODE_POD.containers}


def assert_eth0_has(node: Node, lease: Lease) -> None:
    """The running kernel's address, mask and default route are the lease's."""
    assert f"inet {lease.address} " in node.run("ip -4 address show eth0").text
    route = node.run("ip route show default").text
    assert f"via {lease.routers[0]} dev eth0" in route, f"the default route is {route!r}"
