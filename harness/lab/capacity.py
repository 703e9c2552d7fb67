"""What this host has for nodes: the least of what the machine, this process's control groups, and its CPUs allow.

Memory is in bytes. Sources: Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and scheduler/sched-bwc.rst.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.errors import InputError
from harness.lab.admission import QEMU_ITSELF, Need

# The rest is for the operating system and for pytest.
_SHARE_OF_MEMORY = 0.8
# Measured: a node that boots alone idles for a third of the time, for example while its DHCP client probes an address. The time
# that a node waits for a CPU is added to its deadlines.
_SHARE_OF_CPUS = 1.5
_GROUPS = Path("/sys/fs/cgroup")


def capacity() -> Need:
    """What all nodes together may take on this host."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = Need(memory, float(len(os.sched_getaffinity(0))))
    try:
        own = Path("/proc/self/cgroup").read_text()
    except OSError:
        own = ""
    least = limited(machine, own, _GROUPS)
    return Need(int(least.memory * _SHARE_OF_MEMORY), least.cpus)


def shared(limit: Need) -> Need:
    """What nodes may reserve at once within a limit: more CPUs than there are, because each uses only a part of its own."""
    return replace(limit, cpus=_SHARE_OF_CPUS * limit.cpus)


def limited(machine: Need, own: str, groups: Path) -> Need:
    """The least of what the machine has and what each control group of a process allows; `own` is its /proc/PID/cgroup.

    `groups` is where the groups are mounted. In a container, paths may be those of the host; then the mounted ones count.
    """
    memory, cpus = machine.memory, machine.cpus
    for folder in _folders(own, groups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory = min([memory, *_numbers(folder / name)[:1]])
        for quota in (
            _numbers(folder / "cpu.max"),
            [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")],
        ):
            match quota:
                # No quota is a negative number in version 1, and `max` in version 2.
                case [allowed, period] if allowed > 0 and period > 0:
                    cpus = min(cpus, allowed / period)
    return Need(memory, cpus)


def refuse_what_never_fits(memory: int, limit: Need) -> None:
    """Raises InputError for a guest with more memory than all nodes together may take."""
    if memory + QEMU_ITSELF > limit.memory:
        wanted, allowed = (f"{size / (1 << 30):.1f} GiB" for size in (memory, limit.memory - QEMU_ITSELF))
        raise InputError(
            f"A node with {wanted} of memory never fits here: nodes may take {allowed} in all. Give it less with --memory."
        )


def _folders(own: str, groups: Path) -> Iterator[Path]:
    """The folders of each group of a process, and of all groups above it."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        named = {controllers, *controllers.split(",")}
        mounts = [groups / name for name in sorted(named)] if controllers else [groups, groups / "unified"]
        for mount in mounts:
            below = mount / path.lstrip("/")
            yield from (folder for folder in (below, *below.parents) if folder.is_relative_to(mount))


def _numbers(file: Path) -> list[int]:
    """The numbers in a group's file; none if it is missing or has a word in it, which means no limit."""
    with contextlib.suppress(OSError, ValueError):
        return [int(word) for word in file.read_text().split()]
    return []
