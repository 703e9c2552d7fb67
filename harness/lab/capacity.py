"""What this host has for nodes: the least of what the machine, the control groups above this process, and its CPUs give.

Sources: Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and scheduler/sched-bwc.rst. Memory in bytes.
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
# Measured: a node that boots alone idles for a third of the time, as while its DHCP client probes an address. Deadlines are
# longer by what a node waits for a CPU.
_SHARE_OF_CPUS = 1.5
_GROUPS = Path("/sys/fs/cgroup")


def capacity() -> Need:
    """What nodes may take here, all together."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = Need(memory, float(len(os.sched_getaffinity(0))))
    try:
        own = Path("/proc/self/cgroup").read_text()
    except OSError:
        own = ""
    least = limited(machine, own, _GROUPS)
    return Need(int(least.memory * _SHARE_OF_MEMORY), least.cpus)


def shared(limit: Need) -> Need:
    """What nodes of that limit may ask for at once: more CPUs than there are, of which each uses a part."""
    return replace(limit, cpus=_SHARE_OF_CPUS * limit.cpus)


def limited(machine: Need, own: str, groups: Path) -> Need:
    """The least of what the machine has and each of the groups allows in which a process is, by its /proc/PID/cgroup `own`.

    `groups` is where the groups are mounted. In a container, paths may be those of the host; what is mounted counts then.
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
                # A negative quota is none in the first version, `max` in the second.
                case [allowed, period] if allowed > 0 and period > 0:
                    cpus = min(cpus, allowed / period)
    return Need(memory, cpus)


def refuse_what_never_fits(memory: int, limit: Need) -> None:
    """Raises InputError for a node whose guest has more memory than all nodes may take."""
    if memory + QEMU_ITSELF > limit.memory:
        wanted, allowed = (f"{size / (1 << 30):.1f} GiB" for size in (memory, limit.memory - QEMU_ITSELF))
        raise InputError(
            f"A node with {wanted} of memory never fits here: nodes may take {allowed} in all. Give it less with --memory."
        )


def _folders(own: str, groups: Path) -> Iterator[Path]:
    """The folders of each group of a process, and of all groups above."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        named = {controllers, *controllers.split(",")}
        mounts = [groups / name for name in sorted(named)] if controllers else [groups, groups / "unified"]
        for mount in mounts:
            below = mount / path.lstrip("/")
            yield from (folder for folder in (below, *below.parents) if folder.is_relative_to(mount))


def _numbers(file: Path) -> list[int]:
    """The numbers in a file of a group; none where it is missing, or at a word, which means no limit."""
    with contextlib.suppress(OSError, ValueError):
        return [int(word) for word in file.read_text().split()]
    return []
