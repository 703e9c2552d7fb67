"""A node refuses what its kubelet cannot use, and says why (Kubernetes, static pods: the kubelet reads files in a folder)."""

from pathlib import Path

import pytest

from harness.errors import fails_with
from harness.lab.expectation import milestones_of
from harness.lab.maker import NewNode
from harness.manifests.pods import StaticPod, load
from harness.storage.disk import Disk
from harness.verdict.timeline import Milestone

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
# Without a mirror, the kubelet's log is read in its place.
UNMIRRORED = NODE_POD.without("kubelet")
MAIN = {"name": "main", "image": "docker.io/emilyls/tinycat:v1-alpha2"}
# Seconds within which a refusal is known.
WITHIN = 5.0


def pod(spec: dict[str, object], labels: dict[str, str] | None = None) -> StaticPod:
    """A pod that was not checked; its container's image is on every node."""
    metadata = {"name": "odd", "labels": labels or {}}
    whole = {"hostNetwork": True, "containers": [MAIN], **spec}
    return StaticPod("odd.yaml", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})


PORTS = pod({"containers": [{**MAIN, "ports": [{"containerPort": 80, "hostPort": 8080}]}]})
REFUSED = {
    "ports": (NODE_POD, PORTS, "rejected pod odd: .*must match .containerPort. when .hostNetwork. is true"),
    "unmirrored": (UNMIRRORED, PORTS, "rejected pod odd: .*must match .containerPort. when .hostNetwork. is true"),
    "label": (NODE_POD, pod({}, {"note": "two words"}), "rejected pod odd: .*a valid label must be"),
    "sysctl": (
        NODE_POD,
        pod({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        "rejected pod odd: .*forbidden sysctl",
    ),
}


def runs(odd: StaticPod) -> Milestone:
    """The milestone that its container runs; a refusal ends the wait for it."""
    return milestones_of(odd)[-1]


def test_refusal_is_known_without_a_network(ready_node: NewNode, image: Disk) -> None:
    """A node off the network says why it refuses a manifest; if not, whoever mends its network sees nothing else wrong."""
    node = ready_node(image, [NODE_POD])
    node.wire.unplug()
    node.add(PORTS)
    with fails_with("rejected pod odd: .*must match .containerPort."):
        node.wait(runs(PORTS), within=WITHIN)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_manifest_is_named_with_the_reason(ready_node: NewNode, image: Disk, name: str) -> None:
    """A manifest that the kubelet refuses ends the wait with the reason; if not, a user waits for a pod that never runs."""
    beside, odd, words = REFUSED[name]
    node = ready_node(image, [beside])
    node.add(odd)
    with fails_with(words):
        node.wait(runs(odd), within=WITHIN)
