"""The processor of this host, on which a frozen guest may depend."""

import functools
import platform
from pathlib import Path

from harness.vm.machine import Accelerator

_TOLD = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")


def seen_by_guests(accelerator: Accelerator) -> str:
    """The processor as a guest sees it; an emulated one is the same everywhere."""
    return _described() if accelerator.cpu == "host" else "emulated"


@functools.lru_cache
def _described() -> str:
    """The CPU and the kernel: a guest that was frozen on them may not continue on others."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return " ".join([*(line for line in lines if line.partition(":")[0].strip() in _TOLD), platform.release()])
