"""A node runs what its manifests name and no more (kiOS documentation: three programs on the host, the rest in pods)."""

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.manifests.pods import load

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
# proc_net_tcp(5): an address and a port in hexadecimal, and the state in which a socket listens.
LISTENS = "0A"


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
    open_to_all = {int(port, 16) for address, port in listening if not is_loopback(address)}
    kubelets = node.order.kubelet.port
    assert open_to_all == {kubelets}, f"there also listens {sorted(open_to_all - {kubelets})}"


def is_loopback(address: str) -> bool:
    """Whether only the node itself reaches an address: words of 32 bits, each in the order of an x86 CPU (proc_net_tcp(5))."""
    packed = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    read = ipaddress.ip_address(packed)
    mapped = read.ipv4_mapped if isinstance(read, ipaddress.IPv6Address) else None
    return (mapped or read).is_loopback
