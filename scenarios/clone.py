"""A clone is a complete node: what scenarios get instead of a boot behaves as if it had been booted for them."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.storage.disk import Disk
from harness.vm import confine
from harness.wire.capture import datagrams

NODE_POD = Path(__file__).parent / "manifests/node.yaml"


def test_ready_node_is_live_and_true(ready_node: NewNode, image: Disk) -> None:
    """A clone's clock, pods and network are current; if not, scenarios judge a node as it once was."""
    node = ready_node(image, [NODE_POD])
    before, clock, after = time.time(), int(node.succeed("clock")) / 1e9, time.time()
    assert before - 0.5 < clock < after + 0.5, f"the node's clock is off by {clock - (before + after) / 2:.1f} s"
    # The kubelet may still call the harness's own container waiting.
    node.until(lambda: {"node/crio", "node/kubelet", "kios-e2e/console"} <= running_on(node), "the kubelet lists what runs")
    assert "inet 10.0.2.15/24" in node.succeed("ip -4 address show eth0")
    node.succeed("(echo from the node | nc -l -p 7000) > /dev/null 2>&1 &")
    port = node.forward(7000)
    node.until(lambda: said_on(port) == b"from the node\n", "the node's words on its port 7000")


def test_ready_node_reaches_the_resolver_of_its_lease(ready_node: NewNode, image: Disk) -> None:
    """A clone asks the resolver of its lease; if not, it only looks as if it were on the network.

    The answer depends on the host: QEMU passes the question on to the host's own resolver.
    """
    node = ready_node(image, [NODE_POD])
    lease = node.lease()
    [resolver] = lease.dns_servers
    node.succeed(f"nslookup restored.kios.test {resolver} > /dev/null 2>&1 &")

    def asked() -> bool:
        questions = [sent for sent in datagrams(node.boot.capture) if sent.source == lease.address.ip]
        return any((q.destination, q.destination_port) == (resolver, 53) and b"restored" in q.payload for q in questions)

    node.until(asked, f"a question to {resolver} on the wire")


@pytest.mark.skipif(not confine.supported(), reason="this host's kernel cannot deny connections (landlock, Linux 6.7)")
def test_ready_node_reaches_nothing_of_its_hosts(ready_node: NewNode, image: Disk) -> None:
    """A node cannot connect to the host that tests it; if it can, an image under test reaches all that listens there."""
    node = ready_node(image, [NODE_POD])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        # QEMU's user network has the host's loopback at 10.0.2.2.
        asked = node.run(f"echo hello | timeout 10 nc 10.0.2.2 {listener.getsockname()[1]}")
        with pytest.raises(BlockingIOError):
            pytest.fail(f"a connection from the node came through: {listener.accept()[1]}")
        assert asked.status == 1, f"nc was not refused: {asked.text}"


def test_ready_node_is_nobody_elses(ready_node: NewNode, image: Disk) -> None:
    """What one scenario does on its clone is not seen on another; if it is, verdicts depend on the order of tests."""
    one, other = (ready_node(image, [NODE_POD]) for _ in range(2))
    for place in ("/var/log/mine", "/run/mine"):
        one.write(place, b"mine")
        other.fail(f"test -e /host{place}")


@pytest.mark.generation("a", cannot="what is written on a node outlives its power-off")
def test_ready_node_can_be_powered_off_and_booted(ready_node: NewNode, image: Disk) -> None:
    """A clone powers off in order and boots again; if not, scenarios about power cannot start from a node that is up."""
    node = ready_node(image, [NODE_POD])
    node.write("/var/log/kept", b"kept")
    disk = node.power_off()
    assert disk.superblock().clean
    disk.check_filesystem()
    node.start()
    node.wait_until_ready()
    assert node.read("/var/log/kept") == b"kept"


def running_on(node: Node) -> set[str]:
    """The containers that the kubelet says are running, as `pod/container`."""
    return {f"{each.pod}/{each.container}" for each in node.boot.kubelet.states() if each.state == "running"}


def said_on(port: int) -> bytes:
    """The first bytes from a port of 127.0.0.1; none while nothing listens in the node, though QEMU accepts the connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(100)
    return b""
