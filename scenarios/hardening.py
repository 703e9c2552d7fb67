"""The security contexts of the node pod are real (kiOS documentation, Static Pods: the node pod's securityContext)."""

import re
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk
from harness.verdict.timeline import container_done

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
# Runs instead of a one-shot task's program, in the same container, and reports what it may do.
PROBE = "grep CapEff /proc/self/status; touch /probe && echo writable; head -c 1 /dev/nvme0n1 > /dev/null && echo disk; true"
# capabilities(7), linux/capability.h
BITS = {"NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16}


@pytest.mark.presubmit
def test_one_shot_tasks_may_do_what_the_manifest_grants(ready_node: NewNode, image: Disk) -> None:
    """Each one-shot task has the rights that its manifest grants; with fewer it fails, with more it controls the whole node."""
    node = ready_node(image, [])
    # If the disk's driver is a module, nothing else here loads it.
    node.succeed("test -b /host/dev/nvme0n1 || chroot /host /bin/modprobe nvme")
    node.until(lambda: node.run("test -b /host/dev/nvme0n1").status == 0, "the disk is there to be kept from tasks")
    pod = NODE_POD
    for name in pod.init_containers:
        pod = pod.with_program(name, "localhost/kios-e2e/console:v1", ["sh", "-c", PROBE])
    node.add(pod)
    for name in pod.init_containers:
        node.wait(container_done("kube-system", "node", name))
        told = node.logs("node", name)
        context = pod.container(name)["securityContext"]
        privileged = context.get("privileged", False)
        granted = everything(node) if privileged else mask(context["capabilities"]["add"])
        assert capabilities_in(told) == granted, f"{name} may do {capabilities_in(told):#x}, not {granted:#x}"
        assert ("disk" in told.split()) == privileged, f"{name}'s sight of the node's devices is not the manifest's"
        assert ("writable" in told.split()) != context.get("readOnlyRootFilesystem", False), f"{name}'s root: {told}"


@pytest.mark.presubmit
def test_log_containers_may_do_nothing(ready_node: NewNode, image: Disk) -> None:
    """The log containers have no rights at all; with any, the smallest container is a way into the whole node."""
    node = ready_node(image, [NODE_POD])
    node.until(lambda: len(log_readers(node)) == len(NODE_POD.containers), "each log container runs its program")
    for process in log_readers(node):
        folder = process.removesuffix("/comm")
        assert capabilities_in(node.succeed(f"cat {folder}/status")) == 0
        # The first line of a process's mounts is its root (proc(5)).
        root = node.succeed(f"head -n 1 {folder}/mounts").split()
        assert root[1] == "/"
        assert "ro" in root[3].split(","), "the root of a log container can be written to"


def log_readers(node: Node) -> list[str]:
    """The /proc files that name the log containers' programs (proc(5)); none while crun prepares them."""
    return node.succeed("grep -lx tinycat /proc/[0-9]*/comm || true").split()


def everything(node: Node) -> int:
    """All capabilities that the kernel has: those of init."""
    return capabilities_in(node.succeed("cat /proc/1/status"))


def mask(names: list[str]) -> int:
    """Capabilities by name, as the kernel shows them."""
    return sum(1 << BITS[name] for name in names)


def capabilities_in(status: str) -> int:
    """The effective set in a /proc/PID/status (proc(5))."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert found, f"no capabilities in {status!r}"
    return int(found[1], 16)
