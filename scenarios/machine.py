"""The same image on machines other than the default one: its drivers and its kernel fit them too (kiOS documentation)."""

from pathlib import Path

import pytest

from harness.lab.maker import NewNode

NODE_POD = Path(__file__).parent / "manifests/node.yaml"


@pytest.mark.machine(nic="e1000e")
def test_intel_card_has_the_lease(ready_node: NewNode) -> None:
    """A node with an Intel card gets its address through it; if not, half of all servers stay off the network."""
    node = ready_node(pods=[NODE_POD])
    assert node.succeed("readlink /sys/class/net/eth0/device/driver").strip().endswith("/e1000e")
    assert f"inet {node.lease().address} " in node.succeed("ip -4 address show eth0")


@pytest.mark.machine(cpus=2)
def test_both_cpus_work_for_pods(ready_node: NewNode) -> None:
    """Pods may use both CPUs, and the node still ends in order; if not, a user pays for a processor that idles."""
    node = ready_node(pods=[NODE_POD])
    cpus = int(node.succeed("nproc"))
    assert cpus == 2, f"pods may use {cpus} CPUs of 2"
    for cpu in range(cpus):
        assert node.succeed(f"taskset -c {cpu} sh -c 'cut -d \" \" -f 39 /proc/self/stat'") == f"{cpu}\n"
    assert node.power_off().superblock().clean, "the data partition was not unmounted clean"
