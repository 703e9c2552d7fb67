"""The ports of the node that a pod takes: with two pods that take the same, the kubelet admits one.

Sources: Kubernetes 1.34, pkg/scheduler/util (GetHostPorts), kube-scheduler's framework (HostPortInfo), and SetDefaults of
pkg/apis/core/v1, by which a pod in the host's network takes all ports of its containers.
"""

from collections.abc import Iterable, Iterator
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


def shared(own: Iterable[HostPort], others: Iterable[HostPort]) -> Iterator[tuple[HostPort, HostPort]]:
    """Yields each of a pod's own ports that another pod takes too, with that pod's."""
    known: dict[tuple[int, str], list[HostPort]] = {}
    for port in others:
        known.setdefault((port.number, port.protocol), []).append(port)
    for port in own:
        for other in known.get((port.number, port.protocol), ()):
            if port.address == other.address or _ANY in (port.address, other.address):
                yield port, other
