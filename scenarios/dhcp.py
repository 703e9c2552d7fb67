"""The node gets its address by DHCP and keeps it (kiOS documentation, Static Pods: Obtain an IP address)."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk
from harness.wire import dhcp
from harness.wire.dhcp import Kind, Lease, Message
from harness.wire.dhcp_server import DhcpServer
from harness.wire.grant import Grant, overloaded

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
STAYING_POD = load(Path(__file__).parent / "manifests/dhcpcd.yaml")
SHORT_LEASE = Grant(seconds=60, renew_after=5, rebind_after=20)
DHCPCD = "pidof dhcpcd"


@pytest.mark.presubmit
def test_three_sides_of_the_lease_agree(ready_node: NewNode, image: Disk) -> None:
    """Wire, kernel and dhcpcd's record agree on the lease; if not, the node loses its address at the next renewal."""
    node = ready_node(image, [])
    node.add(NODE_POD)
    node.wait_until_ready()
    lease = dhcp.exchange(node.boot.capture, node.order.machine.mac)
    assert node.lease() == recorded_lease(node) == lease
    assert_eth0_has(node, lease)


def test_settings_outlive_dhcpcd_and_the_hostname(ready_node: NewNode, image: Disk) -> None:
    """Address and route outlive dhcpcd and a new hostname; if not, the network is lost as soon as the client ends."""
    node = ready_node(image, [NODE_POD])
    lease = node.lease()
    assert node.run(DHCPCD).status == 1, "dhcpcd still runs"
    assert_eth0_has(node, lease)
    kubelet = node.succeed("pidof kubelet").strip()
    node.succeed(f"printf other > /host/etc/hostname && kill {kubelet}")
    node.until(lambda: node.run(f"test $(pidof kubelet) -ne {kubelet}").status == 0, "another kubelet runs")
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
    node.until(lambda: "NO-CARRIER" in node.succeed("ip link show eth0 || true"), "eth0 is up without a carrier")
    assert_waits_for_a_lease(node)
    assert discovers(node) == 0, "something was sent over a cable that is not there"
    node.wire.plug()
    node.wait_until_ready()
    assert_eth0_has(node, dhcp.exchange(node.boot.capture, node.order.machine.mac))


def test_a_client_that_stays_renews_its_lease(ready_node: NewNode, image: Disk) -> None:
    """dhcpcd asks its server to keep the address, again and again; if not, the node goes off the network with its lease."""
    node = ready_node(image, [])
    with node.wire.dhcp(SHORT_LEASE) as server:
        node.add(STAYING_POD)
        node.until(lambda: len(renewals(server)) >= 2, "a second REQUEST to keep the address that eth0 has")
        assert {str(request.ciaddr) for request in renewals(server)} == {"10.0.2.15"}
        assert_eth0_has(node, node.lease())


def test_a_lease_that_is_refused_is_given_up_for_another(ready_node: NewNode, image: Disk) -> None:
    """A client that is refused its address takes another; if not, two machines use the same one.

    dhcpcd hears the refusal only at T2: until then it listens to its own address alone, and a NAK is broadcast.
    """
    node = ready_node(image, [])
    with node.wire.dhcp(SHORT_LEASE) as server:
        node.add(STAYING_POD)
        node.until(lambda: "10.0.2.15/" in address_of(node), "eth0 has its first address")
        server.give(replace(SHORT_LEASE, address="10.0.2.16"))
        node.until(lambda: "10.0.2.16/" in address_of(node), "eth0 has the address that it is given in place of the first")
        assert_eth0_has(node, node.lease())
        assert "10.0.2.15/" not in address_of(node)


def test_a_lease_without_a_router_has_no_default_route(ready_node: NewNode, image: Disk) -> None:
    """A node on a network without a router comes up without a default route; if not, no node runs on such a network."""
    node = ready_node(image, [])
    with node.wire.dhcp(Grant(routers=())):
        node.add(NODE_POD)
        node.wait_until_ready()
        assert node.lease().routers == ()
        assert "inet 10.0.2.15/24 " in address_of(node)
        assert "default" not in node.succeed("ip route"), "a default route that no server gave"


def test_the_mask_is_the_leases(ready_node: NewNode, image: Disk) -> None:
    """Mask and routes are the server's, wherever the message has them; if not, neighbours cannot be reached."""
    node = ready_node(image, [])
    with node.wire.dhcp(Grant(mask="255.255.0.0", routes=[("10.9.0.0/16", "10.0.2.9"), ("0.0.0.0/0", "10.0.2.2")]), overloaded):
        node.add(NODE_POD)
        node.wait_until_ready()
        assert str(node.lease().address) == "10.0.2.15/16"
        assert_eth0_has(node, node.lease())
        assert "10.9.0.0/16 via 10.0.2.9 dev eth0" in node.succeed("ip route"), "no route to 10.9.0.0/16"


def test_a_server_may_come_minutes_late(ready_node: NewNode, image: Disk) -> None:
    """A client keeps asking, less and less often, until a server answers; if not, a node that starts too early never joins."""
    node = ready_node(image, [])
    with node.wire.dhcp() as server:
        server.silence()
        node.add(NODE_POD)
        node.until(lambda: len(server.heard) >= 5, "a fifth DISCOVER, a minute behind the first", within=180)
        assert {message.kind for message in server.heard} == {Kind.DISCOVER}
        assert_waits_for_a_lease(node)
        assert node.succeed("ls /host/var/log/pods/kube-system_node_*/dhcpcd") == "0.log\n", "dhcpcd was started again"
        server.speak()
        node.wait_until_ready()
        assert_eth0_has(node, node.lease())


def test_a_second_server_changes_nothing(ready_node: NewNode, image: Disk) -> None:
    """A node keeps to the server whose offer it took; if not, a stray one misleads it, wholly or in part."""
    node = ready_node(image, [])
    stray = Grant(address="10.0.2.66", mask="255.255.0.0", routers=("10.0.2.200",), dns_servers=("10.0.2.200",))
    with node.wire.dhcp() as server, node.wire.dhcp(stray, address="10.0.2.200") as other:
        node.add(NODE_POD)
        node.until(lambda: "inet " in address_of(node), "eth0 has an address")
        assert Kind.DISCOVER in [message.kind for message in other.heard]
        lease = node.lease()
        assert lease.server == server.address, f"the lease is of {lease.server}, who offered second"
        node.wait_until_ready()
        assert_eth0_has(node, lease)


def test_an_address_in_use_is_declined(ready_node: NewNode, image: Disk) -> None:
    """A node does not take an address that another host has; if it does, both are cut off now and then."""
    node = ready_node(image, [])
    with node.wire.dhcp() as server, node.wire.occupy("10.0.2.15"):
        node.add(NODE_POD)
        node.until(lambda: Kind.DECLINE in [message.kind for message in server.heard], "a DECLINE of the address in use")
        assert_waits_for_a_lease(node)
        server.give(Grant(address="10.0.2.16"))
        node.until(lambda: "10.0.2.16/24 " in address_of(node), "eth0 has an address that is free")


def recorded_lease(node: Node) -> Lease:
    """The lease in dhcpcd's own record, from which it renews."""
    [record] = node.succeed("ls /host/var/lib/kubelet/pods/*/volumes/kubernetes.io~empty-dir/runtime/db/eth0.lease").split()
    return dhcp.record_lease(node.read(record.removeprefix("/host")))


def discovers(node: Node) -> int:
    """How many DISCOVERs the node has sent."""
    return [message.kind for message in dhcp.messages(node.boot.capture)].count(Kind.DISCOVER)


def assert_waits_for_a_lease(node: Node) -> None:
    """dhcpcd runs, eth0 has no address, and no container after dhcpcd's in the manifest has started."""
    assert node.run(DHCPCD).status == 0, "dhcpcd does not run"
    assert "inet " not in node.succeed("ip -4 address show eth0")
    begun = set(node.succeed("ls /host/var/log/pods/kube-system_node_*/").split())
    assert not begun & {*NODE_POD.init_containers[2:], *NODE_POD.containers}


def assert_eth0_has(node: Node, lease: Lease) -> None:
    """The running kernel's address, mask and default route are the lease's."""
    assert f"inet {lease.address} " in address_of(node)
    # A client that stays sets the route a moment after the address.
    way_out = f"via {lease.routers[0]} dev eth0"
    node.until(lambda: way_out in node.succeed("ip route show default"), f"the default route is {way_out}", within=10)


def renewals(server: DhcpServer) -> list[Message]:
    """The REQUESTs of a client that has an address and wants to keep it (RFC 2131, table 4)."""
    return [message for message in server.heard if message.kind is Kind.REQUEST and int(message.ciaddr)]


def address_of(node: Node) -> str:
    """What the kernel says of eth0's IPv4 address; nothing while there is no eth0."""
    return node.succeed("ip -4 address show eth0 2> /dev/null || true")
