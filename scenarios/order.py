"""Init containers run one after another, in the manifest's order (kiOS documentation, Static Pods: One shot tasks)."""

import itertools
import math
from pathlib import Path

import pytest

from harness.errors import fails_with
from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk
from harness.verdict.feed import ContainerState

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")


@pytest.mark.presubmit
def test_each_container_waits_for_the_one_before(ready_node: NewNode, image: Disk) -> None:
    """Each one-shot task waits for the one before; if not, a node asks for its address before it has a network driver."""
    node = ready_node(image, [NODE_POD])
    node.until(node.boot.kubelet.answers, "the kubelet's answer")
    states = states_of_node_pod(node)
    one_shots = [states[name] for name in NODE_POD.init_containers]
    for before, after in itertools.pairwise(one_shots):
        assert finish(before) <= start(after), f"{after.container} started before {before.container} had ended"
    for name in NODE_POD.containers:
        assert finish(one_shots[-1]) <= start(states[name]), f"{name} started before the one-shot tasks had ended"


def test_failure_holds_back_what_is_behind_it(ready_node: NewNode, image: Disk) -> None:
    """A failed task holds back those after it; if not, they build on what it left undone."""
    node = ready_node(image, [])
    node.add(NODE_POD.with_args("parted", ["-sf", "/dev/nvme0n1", "resizepart", "3", "100%"]))
    with fails_with("container parted of pod node ended with status 1"):
        node.wait_until_ready()
    # Asked at once: a wait would end with the failure that was just accepted.
    states = states_of_node_pod(node)
    assert {name: states[name].exit_code for name in ("modprobe", "dhcpcd")} == {"modprobe": 0, "dhcpcd": 0}
    for name in ("resize2fs", *NODE_POD.containers):
        assert (states[name].state, states[name].reason) == ("waiting", "PodInitializing"), f"{name} was not held back"


def states_of_node_pod(node: Node) -> dict[str, ContainerState]:
    """What the kubelet says of each container."""
    return {state.container: state for state in node.boot.kubelet.states() if state.pod == NODE_POD.name}


def start(state: ContainerState) -> float:
    """When it started, in whole seconds."""
    assert state.started is not None, f"{state.container} has not started: {state.state} {state.reason}"
    return state.started


def finish(state: ContainerState) -> float:
    """When it ended, in whole seconds; never, while it runs."""
    return math.inf if state.finished is None else state.finished
