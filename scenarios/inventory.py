"""A node runs what its manifests name and no more (kiOS documentation: three programs on the host, the rest in pods)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.manifests.pods import load

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
# proc_net_tcp(5): an address and a port in hexadecimal, and the state in which a socket listens.
LISTENS = "0A"
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


@pytest.mark.presubmit
def test_a_node_listens_on_the_kubelets_port_alone(ready_node: NewNode, figure: Callable[[str, float, str], None]) -> None:
    """Only the kubelet listens on the network; if anything else does, a stranger finds a door that no manifest names."""
    node = ready_node(pods=[NODE_POD])
    sockets = [line.split() for line in node.succeed("cat /proc/net/tcp /proc/net/tcp6 2> /dev/null || true").splitlines()]
    listening = [words[1].split(":") for words in sockets if len(words) > 3 and words[3] == LISTENS]
    memory = {line.split(":")[0]: int(line.split()[1]) for line in node.succeed("cat /proc/meminfo").splitlines()}
    figure("ports that listen", len(listening), "")
    figure("modules", len(node.modules()), "")
    figure("processes", int(node.succeed("ls -d /proc/[0-9]* | wc -l")), "")
    figure("memory in use", (memory["MemTotal"] - memory["MemAvailable"]) / 1024, "MiB")
    open_to_all = {int(port, 16) for address, port in listening if address not in LOOPBACK}
    kubelets = node.order.kubelet.port
    assert open_to_all == {kubelets}, f"there also listens {sorted(open_to_all - {kubelets})}"
