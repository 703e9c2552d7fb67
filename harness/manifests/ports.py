"""The ports of the node that a pod takes: with two pods that take the same, the kubelet admits one.

Sources: Kubernetes 1.34, pkg/scheduler/util (GetHostPorts), kube-scheduler's framework (HostPortInfo), and SetDefaults of
pkg/apis/core/v1, by which a pod in the host's network takes all ports of its containers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.manifests.yaml_reader import YamlNode

_ANY = "0.0.0.0"


@dataclass(frozen=True)
class HostPort:
    """A port of the node, the address at which it is taken, and the line where a pod asks for it."""

    number: int
    protocol: str
    address: str
    line: int

    def is_that_of(self, other: "HostPort") -> bool:
        """Whether only one pod can have them."""
        same = (self.number, self.protocol) == (other.number, other.protocol)
        return same and (self.address == other.address or _ANY in (self.address, other.address))

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


def of(root: YamlNode) -> Iterator[HostPort]:
    """The ports that a pod's containers take, without its init containers, but for sidecars."""
    spec = root.get("spec")
    if spec is None:
        return
    network = spec.get("hostNetwork")
    field = "containerPort" if network and network.value is True else "hostPort"
    sidecars = [each for each in spec.entries("initContainers") if each.word("restartPolicy") == "Always"]
    for container in (*sidecars, *spec.entries("containers")):
        for port in container.entries("ports"):
            taken = port.get(field)
            if taken and isinstance(taken.value, int) and taken.value > 0:
                yield HostPort(taken.value, port.word("protocol") or "TCP", port.word("hostIP") or _ANY, taken.line)
