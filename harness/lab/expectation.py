"""What is expected of a run: the pods that it is to run, and a milestone for each of their containers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.manifests.pods import StaticPod
from harness.verdict.situation import Awaited
from harness.verdict.timeline import Milestone, container_done, container_running, container_started
from harness.vm.machine import KUBELET_PORT

# In seconds on the reference host. The first container comes 10 s after the kubelet, each further one 2 to 10 s later.
_FIRST_CONTAINER_WITHIN = 180.0
_NEXT_CONTAINER_WITHIN = 60.0


@dataclass(frozen=True)
class Expectation:
    """What is expected of a run: its pods, and what the waits have to know about it.

    `console_pod` is the harness's own pod. `slowness` is the factor of all deadlines. `reachable` says whether the node has had
    an address yet, `mac` is that of its NIC, `kubelet_port` that of the kubelet's API. `earlier_boots` is how often the node
    was booted before, if its logs outlive a power-off. `is_silent`: its kernel writes nothing to the serial port before a pod
    has loaded the driver.
    """

    pods: Sequence[StaticPod]
    console_pod: StaticPod
    slowness: float
    reachable: Callable[[], bool]
    mac: str
    kubelet_port: int = KUBELET_PORT
    earlier_boots: int = 0
    is_silent: bool = False


def milestones_of(pod: StaticPod) -> tuple[Milestone, ...]:
    """A milestone for each container: init containers done, in order, or running if they are sidecars; then the others running.

    A container that may end passes its milestone as well when it has ended successfully.
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
    """The pod as the judge awaits it: its restart policy and one-shots decide which failures are final."""
    one_shots = frozenset(pod.init_containers) - frozenset(pod.sidecars)
    return Awaited(pod.name, pod.namespace, pod.restart_policy, one_shots)
