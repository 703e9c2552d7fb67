"""Where the folder of a run is made: on a disk, if this host has one for it.

Debian 13's /tmp is in memory: nodes' disks and frozen memories there would take it from the nodes themselves.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

# For a frozen node and the disks of some clones.
_ROOM = 4 << 30
_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True)
class Place:
    """A folder for temporary files, and a line to report about it, if any."""

    folder: Path
    words: str = ""


def for_run() -> Place:
    """Where this process makes the folder of its run: see `choose`. With TMPDIR, its user has named the place.

    Raises HarnessError if nothing can be written to any folder for temporary files.
    """
    try:
        wanted = Path(tempfile.gettempdir())
    except FileNotFoundError as none:
        raise HarnessError(f"{none.strerror}: make room, or name a folder on another disk with TMPDIR.") from none
    return choose(wanted, "TMPDIR" in os.environ, Path("/proc/self/mountinfo").read_text())


def choose(wanted: Path, named: bool, mounts: str, disk: Path = Path("/var/tmp")) -> Place:
    """`wanted` if it is on a disk or its user `named` it; else `disk`, if that is one and has room.

    `mounts` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    if filesystem_of(wanted, mounts) not in _IN_MEMORY:
        return Place(wanted)
    usable = filesystem_of(disk, mounts) not in _IN_MEMORY and os.access(disk, os.W_OK | os.X_OK)
    if usable and not named and shutil.disk_usage(disk).free >= _ROOM:
        return Place(disk, f"the run's folder is in {disk}: {wanted} is in memory")
    return Place(wanted, f"the run's folder is in {wanted}, which is in memory: TMPDIR=FOLDER names one on a disk")


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the file system that a path is on; the topmost one if several are mounted at the same place."""
    kinds = {"/": ""}
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape", errors="replace")
        kinds[point] = behind.split()[0]
    real = path.resolve()
    return next(kinds[str(folder)] for folder in (real, *real.parents) if str(folder) in kinds)
