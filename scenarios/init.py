"""What init prepares, keeps running and takes from `/etc`, whom it listens to, and how it ends a node (kiOS documentation).

Promises that kiOS is known to break are marked `xfail`, with the reason; on a kiOS that keeps them they pass.
"""

from pathlib import Path, PurePosixPath

import pytest

from harness.errors import NodeFailure
from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
NODE_POD, FAREWELL_POD = load(MANIFESTS / "node.yaml"), load(MANIFESTS / "farewell.yaml")
ARGUMENTS = "tr '\\0' ' ' < /proc/$(pidof kubelet)/cmdline"
POWER_OFFS = 5
# What a scenario asserts itself: a node that dies on the way has broken more than the promise.
ASSERTED = pytest.RaisesExc(AssertionError, check=lambda raised: not isinstance(raised, NodeFailure))


def test_network_and_mounts_are_prepared(ready_node: NewNode, image: Disk) -> None:
    """lo is up, packets are forwarded, and mounts are shared; if not, pods with a network or mounts of their own fail."""
    node = ready_node(image, [NODE_POD])
    assert "LOOPBACK,UP" in node.succeed("ip link show lo"), "lo is down"
    assert node.succeed("cat /proc/sys/net/ipv4/ip_forward") == "1\n", "packets are not forwarded"
    roots = [line for line in node.succeed("cat /proc/1/mountinfo").splitlines() if line.split()[4] == "/"]
    assert " shared:" in roots[-1], f"the root is not shared: {roots[-1]}"


def test_crio_is_started_again(ready_node: NewNode, image: Disk) -> None:
    """A CRI-O that dies is started again, and pods with it; if not, a node on which it crashed once starts nothing any more."""
    node = ready_node(image, [NODE_POD])
    before = node.succeed("pidof crio").strip()
    node.succeed(f"kill -9 {before}")
    node.until(lambda: node.run(f"test $(pidof crio) -ne {before}").status == 0, "another CRI-O runs")
    node.add(FAREWELL_POD)
    node.wait_until_ready()


def test_labels_reach_the_kubelet(ready_node: NewNode, image: Disk) -> None:
    """The labels that are written reach the kubelet, and no others; if not, garbage ends it again and again."""
    node = ready_node(image, [NODE_POD])
    assert "--node-labels" not in node.succeed(ARGUMENTS)
    node.write(PurePosixPath("/etc/kubernetes/node-labels"), b"# where it stands\nexample.com/rack:   r1 # left\n")
    restart_kubelet(node)
    assert "--node-labels example.com/rack=r1 " in node.succeed(ARGUMENTS).replace("--node-labels=", "--node-labels ")


def test_kubelet_finds_its_users(ready_node: NewNode, image: Disk) -> None:
    """`/etc` has the users and groups that the kubelet looks for; if not, it does not start, and no pod ever runs."""
    node = ready_node(image, [NODE_POD])
    restart_kubelet(node)
    node.until(node.boot.kubelet.answers, "the answer of another kubelet")
    for file in ("/etc/passwd", "/etc/group"):
        assert b"root:" in node.read(file), f"{file} has no root"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(b"other", id="bare"),
        pytest.param(
            b"other\n",
            id="line",
            marks=pytest.mark.xfail(
                raises=ASSERTED, reason="kiOS's init takes the newline behind a name in /etc/hostname for a part of it"
            ),
        ),
    ],
)
def test_hostname_is_the_files(ready_node: NewNode, image: Disk, written: bytes) -> None:
    """The node has the name in `/etc/hostname`, with or without a newline after it; if not, users see a broken name."""
    node = ready_node(image, [NODE_POD])
    node.write(PurePosixPath("/etc/hostname"), written)
    restart_kubelet(node)
    # The container's own hostname is still the old one.
    name = node.succeed("nsenter -t 1 -u hostname").removesuffix("\n")
    assert name == "other", f"the node's name is {name!r} for {written!r} in /etc/hostname"


@pytest.mark.xfail(
    raises=ASSERTED,
    reason="kiOS's init serves one client of /run/system.sock at a time, and the kubelet is always connected",
)
def test_a_second_client_of_the_system_socket_is_served(ready_node: NewNode, image: Disk) -> None:
    """Init obeys clients other than the kubelet; if not, no tool of a user's can power a node off or restart a daemon."""
    node = ready_node(image, [NODE_POD])
    before = node.succeed("pidof kubelet").strip()
    node.succeed("kios-system 3")
    asked_again = f"for try in $(seq 20); do test $(pidof kubelet) -ne {before} && exit; sleep 1; done; exit 1"
    served = node.run(asked_again).status == 0
    assert served, (
        "a second client of /run/system.sock asked for another kubelet: init reads nobody's command but the kubelet's"
    )


@pytest.mark.generation("a", cannot="each power-off unmounts the data partition: none is mounted")
def test_every_power_off_leaves_the_data_partition_clean(ready_node: NewNode, image: Disk) -> None:
    """Each power-off unmounts the data partition; if one does not, what was written last is lost now and then."""
    # In parallel: most of a power-off is spent waiting for what does not end by itself.
    nodes = [ready_node(image, [NODE_POD]) for _ in range(POWER_OFFS)]
    for node in nodes:
        node.boot.press_power_button()
    for node in nodes:
        node.boot.wait_for_power_off(within=120)
    left = [node.disk().superblock() for node in nodes]
    dirty = sum(not superblock.clean for superblock in left)
    assert not dirty, f"{dirty} of {POWER_OFFS} power-offs left the data partition mounted"


def restart_kubelet(node: Node) -> None:
    """Ends the kubelet, which init starts again."""
    before = node.succeed("pidof kubelet").strip()
    node.succeed("kill $(pidof kubelet)")
    node.until(lambda: node.run(f"test $(pidof kubelet) -ne {before}").status == 0, "another kubelet runs")
