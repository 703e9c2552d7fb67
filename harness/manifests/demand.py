"""What pods request of a node, and whether it has that much (Kubernetes, Resource Management for Pods)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from harness.manifests import quantity
from harness.manifests.manifest import Manifest


@dataclass(frozen=True)
class Resource:
    """A resource by its name in a manifest, and in words; `amount` reads a quantity, `shown` writes such an amount."""

    name: str
    words: str
    amount: Callable[[Any], int]
    shown: Callable[[int], str]


MEMORY = Resource("memory", "of memory", quantity.whole, lambda size: f"{size / (1 << 20):.0f} MiB")
"""Memory, in bytes."""
CPUS = Resource("cpu", "CPUs", quantity.thousandths, lambda thousandths: f"{thousandths / 1000:g}")
"""CPUs, in thousandths."""


def requested(manifest: Manifest, resource: Resource) -> int:
    """How much a pod requests, for which the kubelet must have room before it runs the pod.

    A limit counts as the request if there is none. Init containers run one after another, a sidecar beside all later ones.
    """
    spec = manifest["spec"]
    at_start = beside = 0
    for container in spec.get("initContainers") or ():
        own = _of(container, resource)
        if container.get("restartPolicy") == "Always":
            beside += own
            at_start = max(at_start, beside)
        else:
            at_start = max(at_start, beside + own)
    running = beside + sum(_of(container, resource) for container in spec.get("containers") or ())
    # The pod's own requests replace those of its containers (Kubernetes, pod-level resources).
    whole = _of(spec, resource) or max(at_start, running)
    return whole + resource.amount((spec.get("overhead") or {}).get(resource.name))


def lacking(manifests: Iterable[Manifest], resource: Resource, there: int) -> str:
    """Why a node that has so much of a resource cannot run these pods, in words; empty if their requests fit."""
    pods = [(str(manifest["metadata"]["name"]), requested(manifest, resource)) for manifest in manifests]
    wanted = sum(amount for _, amount in pods)
    if wanted <= there:
        return ""
    named = ", ".join(f"{name} {resource.shown(amount)}" for name, amount in pods if amount)
    return (
        f"the pods request {resource.shown(wanted)} {resource.words} ({named}), the node has {resource.shown(there)}: "
        "the kubelet never runs them all"
    )


def _of(holder: Any, resource: Resource) -> int:
    resources = holder.get("resources") or {}
    for kind in ("requests", "limits"):
        if (asked := (resources.get(kind) or {}).get(resource.name)) is not None:
            return resource.amount(asked)
    return 0
