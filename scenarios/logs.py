"""What CRI-O and the kubelet write reaches the node pod's logs (kiOS documentation, Static Pods: Node Level Log Mirroring)."""

import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.storage.disk import Disk

NODE_POD = Path(__file__).parent / "manifests/node.yaml"
DAEMONS = ("crio", "kubelet")
LINES = range(1, 1001)
# The kubelet's first words.
GREETING = "Kubelet version"


@pytest.mark.presubmit
@pytest.mark.parametrize("daemon", DAEMONS)
def test_mirror_is_complete_and_in_order(ready_node: NewNode, image: Disk, daemon: str) -> None:
    """The mirrored log has every line in order; if not, it has holes just where the trouble is."""
    node = ready_node(image, [NODE_POD])
    write_marks(node, daemon)
    node.until(lambda: marks_in(node.logs("node", daemon)) == [*LINES], f"the lines written to {daemon}.log in {daemon}'s log")
    # The endpoint has the container's last run, which is the only one where its daemon has not been started again.
    told = node.boot.kubelet.logs("kube-system", "node", daemon)
    assert marks_in(told) == [*LINES], "the endpoint lacks some of them"
    assert told in node.logs("node", daemon), "the endpoint reads otherwise"


def test_lines_from_before_the_reader_are_there(ready_node: NewNode, image: Disk) -> None:
    """Lines from before the reader started are mirrored too; if not, users never learn why a daemon had trouble starting."""
    node = ready_node(image, [])
    write_marks(node, "crio")
    node.add(NODE_POD)
    node.wait_until_ready()
    node.until(lambda: marks_in(node.logs("node", "crio")) == [*LINES], "the lines written to crio.log before")
    node.until(lambda: GREETING in node.logs("node", "kubelet"), "the kubelet's first words")


def test_mirroring_outlives_a_restart_of_the_kubelet(ready_node: NewNode, image: Disk) -> None:
    """The mirror goes on after a restart of the kubelet; if not, the reason for the restart is lost."""
    node = ready_node(image, [NODE_POD])
    node.until(lambda: GREETING in node.logs("node", "kubelet"), "the kubelet's first words")
    # On its way up a node may start its kubelet more than once.
    before = node.logs("node", "kubelet").count(GREETING)
    node.succeed("kill $(pidof kubelet)")
    node.until(lambda: node.logs("node", "kubelet").count(GREETING) == before + 1, "the first words of another kubelet")


@pytest.mark.presubmit
def test_strangers_read_no_logs(ready_node: NewNode, image: Disk) -> None:
    """Nobody without a certificate reads logs; if they can, whoever reaches the node runs commands in its pods as well."""
    node = ready_node(image, [NODE_POD])
    node.until(node.boot.kubelet.answers, "the kubelet's answer to the run's own certificate")
    url = f"https://127.0.0.1:{node.boot.kubelet.port}/containerLogs/kube-system/node/crio"
    unproven = ssl.create_default_context()
    unproven.check_hostname, unproven.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, context=unproven, timeout=60)
    assert refused.value.code == 401, f"a stranger is answered {refused.value.code}"


def write_marks(node: Node, daemon: str) -> None:
    """Writes numbered lines into the daemon's FIFO: 12 KiB, which the kernel buffers until they are read."""
    loop = f"for i in $(seq {LINES.start} {LINES.stop - 1}); do echo mark $i; done"
    node.succeed(f"{loop} > /host/var/run/{daemon}.log")


def marks_in(text: str) -> list[int]:
    """The numbers of the lines that are marks."""
    return [int(number) for number in re.findall(r"^mark (\d+)$", text, re.MULTILINE)]
