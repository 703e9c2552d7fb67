"""What a pod asks of its node's memory, and that no node can have less (Kubernetes, Resource Management for Pods)."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from harness.manifests.manifest import Manifest

# Kubernetes, apimachinery, resource.Quantity: a number with a suffix, binary or decimal, or an exponent.
_QUANTITY = re.compile(r"\s*\+?(?P<number>\d+\.?\d*|\.\d+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[-+]?\d+))?\s*")
_BINARY = {f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {
    letter: Decimal(1000) ** power
    for letter, power in {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}.items()
}

# A quantity's (int64).
_MOST = (1 << 63) - 1


def requested(manifest: Manifest) -> int:
    """The bytes of memory that a pod requests: what the kubelet has to find room for before it runs it.

    A limit is a request where there is no other. Init containers run one after the other, sidecars beside all behind them.
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
    # The pod's own requests stand for those of its containers (Kubernetes, pod-level resources).
    whole = _of(spec) or max(at_start, running)
    return whole + _bytes((spec.get("overhead") or {}).get("memory"))


def lacking(manifests: Iterable[Manifest], memory: int) -> str:
    """Why pods cannot be on one node of so many bytes, in words; empty if their requests leave room."""
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
            return _bytes(asked)
    return 0


def _bytes(quantity: Any) -> int:
    """Nothing for what is no quantity: other rules refuse it."""
    match = _QUANTITY.fullmatch(str(quantity)) if quantity is not None else None
    if match is None:
        return 0
    if match["exponent"]:
        factor = Decimal(10) ** int(match["exponent"][:4])
    else:
        factor = (_BINARY | _DECIMAL).get(match["suffix"] or "", Decimal(1))
    return int(min(Decimal(_MOST), (Decimal(match["number"]) * factor).to_integral_value(rounding="ROUND_CEILING")))


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
