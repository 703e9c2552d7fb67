"""What this host has and lacks for nodes, and how to get what it lacks."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import HarnessError
from harness.lab import builder, cache, capacity, host
from harness.lab.keeper import scratch
from harness.lab.size import size_in_bytes
from harness.lab.wanted import Wanted
from harness.vm import accelerator, qemu

_GIB = 1 << 30
# For a first build and the frozen nodes.
_DISK = 20 * _GIB
# For one node beside the rest of the machine.
_MEMORY = 2 * _GIB
# Each program, and the option that makes it print its version.
_TOOLS = {
    "qemu-img": "--version",
    "qemu-io": "--version",
    "debugfs": "-V",
    "e2fsck": "-V",
    "mcopy": "--version",
    "lz4": "--version",
    "setpriv": "--version",
}


@dataclass(frozen=True)
class Condition:
    """The condition of one thing, in words, and its cure; empty if it needs none."""

    what: str
    words: str
    cure: str = ""

    def line(self) -> str:
        """The condition as a line."""
        words = " ".join(self.words.split())
        return f"{'LACKS' if self.cure else 'ok':<6} {self.what}: {words}" + (f"  ->  {self.cure}" if self.cure else "")


def examine(wanted: Wanted) -> Iterator[Condition]:
    """Yields the condition of each thing that such a node needs, as it is examined."""
    yield from _under_test(wanted)
    yield from (_tool(name, question) for name, question in _TOOLS.items())
    yield _memory()
    try:
        folder = cache.folder(wanted.cache)
    except HarnessError as lacking:
        yield Condition("cache", str(lacking), "name one with --image-cache DIR")
        return
    yield _disk(folder)
    try:
        found = qemu.find(wanted.qemu, host.unpacked_qemu(folder))
        freezes = "nodes can be cloned" if found.can_freeze else "every node is booted: setup/qemu.sh brings one that clones"
        yield Condition("QEMU", f"{found.path} {'.'.join(map(str, found.version))}; {freezes}")
        code = host.firmware_of(found, wanted.firmware)
        yield Condition("firmware", str(code.code))
        with scratch("kios-e2e-doctor-") as place:
            chosen = accelerator.choose(wanted.accelerator, found.path, code, folder / "accelerators.json", place)
        yield Condition("accelerator", f"{chosen.name}, {chosen.reason}; deadlines x {chosen.slowness:.2f}")
    except (HarnessError, OSError) as lacking:
        yield Condition("QEMU and firmware", str(lacking), "setup/debian.sh run, in a checkout of the harness")
    yield _image(folder)


def _under_test(wanted: Wanted) -> Iterator[Condition]:
    """The condition of what was named; none for the reference image, which has a line of its own."""
    named = wanted.efi or wanted.image
    try:
        wanted.check()
        # A host without memory for any node is reported below.
        if wanted.memory != Wanted.memory:
            capacity.refuse_what_never_fits(size_in_bytes(wanted.memory), capacity.capacity())
        belief = wanted.belief()
    except (HarnessError, OSError) as unfit:
        yield Condition("what is to be tested", str(unfit), "name what a node can be made of")
    else:
        if named:
            yield Condition("what is to be tested", f"{named}; {belief.words()}" if belief else str(named))


def _tool(name: str, question: str) -> Condition:
    try:
        found = tools.find(name)
    except HarnessError as lacking:
        words, _, cure = str(lacking).partition(": ")
        return Condition(name, words, cure)
    try:
        tools.run(name, question)
    except HarnessError as broken:
        return Condition(name, str(broken), f"apt-get install --reinstall {tools.package(name)}")
    return Condition(name, str(found))


def _disk(folder: Path) -> Condition:
    # Path.exists raises for a folder below one that this user may not enter.
    there = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110
    try:
        free = shutil.disk_usage(there).free
    except OSError as unknown:
        return Condition("disk", f"{folder}: {unknown.strerror}", "name another folder with --image-cache")
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Condition("disk", f"{folder} cannot be written by this user", "name another folder with --image-cache")
    cure = "make room, or name another folder with --image-cache" if free < _DISK and not folder.exists() else ""
    return Condition("disk", f"{free / _GIB:.0f} GiB are free at {folder}", cure)


def _memory() -> Condition:
    carried = capacity.capacity()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cure = "a node needs 2 GiB beside the rest: use a larger machine" if carried.memory < _MEMORY else ""
    return Condition("memory and CPUs", f"{total / _GIB:.0f} GiB, {carried.cpus:.0f} CPUs", cure)


def _image(folder: Path) -> Condition:
    try:
        return Condition("reference image", builder.ask("find", "--cache", folder))
    except HarnessError as lacking:
        return Condition("reference image", str(lacking), "python -m images build")
