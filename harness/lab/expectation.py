"""What a run is known to bring: the pods it is to run, and a milestone for each of their containers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.manifests.pods import StaticPod
from harness.verdict.situation import Awaited
from harness.verdict.timeline import Milestone, container_done, container_running, container_started
from harness.vm.machine import KUBELET_PORT

# Reference TCG: the first container comes 10 s behind the kubelet, each further one 2 to 10 s behind the one before.
_FIRST_CONTAINER_WITHIN = 180.0
_NEXT_CONTAINER_WITHIN = 60.0


@dataclass(frozen=True)
class Expectation:
    """What a run is known to bring: its pods, how much slower than the reference the host is, when it is on the net, its NIC.

    `console_pod` is the harness's own pod, `kubelet_port` that of the kubelet's API.
    """

    pods: Sequence[StaticPod]
    console_pod: StaticPod
    slowness: float
    reachable: Callable[[], bool]
    mac: str
    kubelet_port: int = KUBELET_PORT


def milestones_of(pod: StaticPod) -> tuple[Milestone, ...]:
    """Each container's: init containers done in their order, or running if they are sidecars, then the others running.

    A container that may end has passed when it has done its work, too.
    """
    may_end = pod.restart_policy != "Always"
    shows = {name: container_running if name in pod.sidecars else container_done for name in pod.init_containers}
    shows |= dict.fromkeys(pod.containers, container_started if may_end else container_running)
    return tuple(
        Milestone(
            f"{pod.name}/{name}",
            shown(pod.namespace, pod.name, name),
            _FIRST_CONTAINER_WITHIN + _NEXT_CONTAINER_WITHIN * position,
            told_by_kubelet=shown is container_running,
        )
        for position, (name, shown) in enumerate(shows.items())
    )


def awaited(pod: StaticPod) -> Awaited:
    """What is final of a pod's failures."""
    one_shots = frozenset(pod.init_containers) - frozenset(pod.sidecars)
    return Awaited(pod.name, pod.namespace, pod.restart_policy, one_shots)
