"""How much memory pods request, and whether a node has that much (Kubernetes, Resource Management for Pods)."""

from collections.abc import Iterable
from typing import Any

from harness.manifests import quantity
from harness.manifests.manifest import Manifest


def requested(manifest: Manifest) -> int:
    """The bytes of memory that a pod requests, for which the kubelet must have room before it runs the pod.

    A limit counts as the request if there is none. Init containers run one after another, a sidecar beside all later ones.
    """
    spec = manifest["spec"]
    at_start = beside = 0
    for container in spec.get("initContainers") or ():
        own = _of(container)
        if container.get("restartPolicy") == "Always":
            beside += own
            at_start = max(at_start, beside)
        else:
            at_start = max(at_start, beside + own)
    running = beside + sum(_of(container) for container in spec.get("containers") or ())
    # The pod's own requests replace those of its containers (Kubernetes, pod-level resources).
    whole = _of(spec) or max(at_start, running)
    return whole + quantity.whole((spec.get("overhead") or {}).get("memory"))


def lacking(manifests: Iterable[Manifest], memory: int) -> str:
    """Why a node with so many bytes of memory cannot run these pods, in words; empty if their requests fit."""
    pods = [(str(manifest["metadata"]["name"]), requested(manifest)) for manifest in manifests]
    wanted = sum(size for _, size in pods)
    if wanted <= memory:
        return ""
    named = ", ".join(f"{name} {_mib(size)}" for name, size in pods if size)
    return f"the pods request {_mib(wanted)} of memory ({named}), the node has {_mib(memory)}: the kubelet never runs them all"


def _of(holder: Any) -> int:
    resources = holder.get("resources") or {}
    for kind in ("requests", "limits"):
        if (asked := (resources.get(kind) or {}).get("memory")) is not None:
            return quantity.whole(asked)
    return 0


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
