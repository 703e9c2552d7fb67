"""The QEMU program: found, and checked to be fit for testing nodes."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import HarnessError

# Measured: 7.2 crashes guest kernels; 10.0 never did.
_OLDEST = (10, 0)
_WITHIN = 30.0
# Older versions refuse: "non-migratable device nvme".
_MIGRATES_NVME = (11, 1)


@dataclass(frozen=True)
class Qemu:
    """A QEMU for x86-64: its path and its version."""

    path: Path
    version: tuple[int, int]

    @property
    def can_freeze(self) -> bool:
        """Whether a node with its NVMe disk can be frozen and cloned."""
        return self.version >= _MIGRATES_NVME

    @property
    def firmware(self) -> Path:
        """The folder in which an unpacked QEMU has the descriptors of its firmware."""
        return self.path.parent.parent / "share/qemu/firmware"


def find(program: str | None, unpacked: Path) -> Qemu:
    """Returns the QEMU named, else the one that the set-up unpacked in a folder, else the system's.

    Raises HarnessError if it is missing, does not run or is older than 10.
    """
    named = program or str(unpacked / "bin/qemu-system-x86_64")
    found = shutil.which(named) or (None if program else shutil.which("qemu-system-x86_64"))
    if found is None:
        raise HarnessError(
            f"There is no {program or 'qemu-system-x86_64'}. Bring it: setup/debian.sh run, or name one with --qemu."
        )
    said = version_of(Path(found))
    match = re.search(r"QEMU emulator version (\d+)\.(\d+).*", said)
    if match is None:
        raise HarnessError(f"{found} is no QEMU: asked for its version, it says {said[:200]!r}.")
    version = (int(match[1]), int(match[2]))
    if version < _OLDEST:
        raise HarnessError(
            f"{match[0]} is too old: below {_OLDEST[0]}, QEMU crashes guest kernels. Bring a newer one: setup/debian.sh run"
        )
    return Qemu(Path(found), version)


def version_of(program: Path) -> str:
    """What a QEMU says when it is asked for its version; raises HarnessError if it cannot be run, or does not answer."""
    return tools.words(tools.run(str(program), "--version", timeout=_WITHIN, ok=range(256)))
