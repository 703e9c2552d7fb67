"""A machine's disk as QEMU sees it: whether there is one, and how long its requests take."""

import time
from typing import Any

from harness.errors import HarnessError
from harness.vm.machine import DISK
from harness.vm.qmp import Qmp

_WITHIN = 5.0
# A slow disk completes few requests.
_LOOK_SECONDS = 3.0


def is_there(qmp: Qmp) -> bool:
    """Whether the machine has its disk; True if QEMU does not tell."""
    return _stats(qmp) is not None


def seconds_a_request(qmp: Qmp) -> float:
    """The mean time of all requests so far, or of those completed in the next three seconds, whichever is longer.

    A disk may be so slow that none is completed meanwhile. 0 if there were none at all, or if QEMU does not tell.
    """
    before = _stats(qmp)
    if not before:
        return 0.0
    time.sleep(_LOOK_SECONDS)
    after = _stats(qmp) or before
    (ended, took), (ended_before, took_before) = _totals(after), _totals(before)
    return max(_mean(ended, took), _mean(ended - ended_before, took - took_before))


def idle_seconds(qmp: Qmp) -> float | None:
    """For how long the guest has asked nothing of its disk; None where it never did, or QEMU does not tell."""
    idle = (_stats(qmp) or {}).get("idle_time_ns")
    return None if idle is None else idle / 1e9


def _totals(stats: dict[str, int]) -> tuple[int, int]:
    """The number of completed requests, and the nanoseconds that they took."""
    kinds = ("rd", "wr", "flush")
    return sum(stats[f"{kind}_operations"] for kind in kinds), sum(stats[f"{kind}_total_time_ns"] for kind in kinds)


def _mean(ended: int, took: int) -> float:
    return took / ended / 1e9 if ended else 0.0


def _stats(qmp: Qmp) -> dict[str, int] | None:
    """QEMU's counters of the disk (qapi/block-core.json, BlockDeviceStats); empty if it does not tell, None without a disk."""
    try:
        told: Any = qmp.execute("query-blockstats", None, _WITHIN)
    except HarnessError:
        return {}
    if not isinstance(told, list):
        return {}
    return next((each["stats"] for each in told if each.get("node-name") == DISK and each.get("qdev")), None)
