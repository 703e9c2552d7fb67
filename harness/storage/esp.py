"""Files on the EFI System Partition of a disk that is not in use, and whether firmware finds one there to start.

The partition is not trusted: a chain of clusters may be endless, and so may be the tree of folders.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from harness import tools
from harness.errors import HarnessError, InputError
from harness.storage import overlay
from harness.storage.disk import Disk

LOADER = "EFI/Boot/Bootx64.efi"
"""Where firmware looks on a disk without a boot entry (UEFI 2.10, 3.5.1.1), in kiOS's spelling."""

# The beginning of each EFI binary (UEFI 2.10, 2.1.1).
_MAGIC = b"MZ"
_MOST = 2 << 30
_MOST_LISTED = 1 << 20
_WITHIN = 120.0
# mtools take a name as a shell pattern.
_PATTERN = re.compile(r"([][*?\\])")
_FULL = "Disk full"


def loader(disk: Disk) -> bytes:
    """Returns the EFI binary that firmware starts from a disk. Raises as `read`."""
    return read(disk, LOADER)


def read(disk: Disk, path: str) -> bytes:
    """Returns the content of a file on a disk's ESP, by its path on it.

    Raises HarnessError if it does not exist, or if the partition is larger than any of kiOS's.
    """
    return head(disk, path, disk.extent(disk.esp)[1])


def head(disk: Disk, path: str, most: int) -> bytes:
    """Returns at most the first `most` bytes of a file. Raises as `read`."""
    name = _PATTERN.sub(r"\\\1", path)
    return tools.head(most, "mcopy", "-n", "-i", drive(disk), f"::{name}", "-", timeout=_WITHIN)


def files(disk: Disk) -> list[str]:
    """Returns the paths of the files on a disk's ESP, up to a MiB of them; none if it has no filesystem."""
    if disk.extent(disk.esp)[1] > _MOST:
        return []
    listed = tools.head(_MOST_LISTED, "mdir", "-/", "-b", "-i", drive(disk), "::", timeout=_WITHIN, ok=range(256))
    named = (line for line in listed.decode(errors="replace").splitlines() if not line.endswith("/"))
    return sorted(line.removeprefix("::").lstrip("/") for line in named if line.startswith("::"))


def drive(disk: Disk) -> str:
    """The name of a disk's ESP for mtools; raises HarnessError for one that is larger than any of kiOS's."""
    start, size = disk.extent(disk.esp)
    if size > _MOST:
        raise HarnessError(f"an EFI System Partition of {size >> 20} MiB is not read")
    return f"{disk.path.absolute()}@@{start}"


def put(disk: Path, base: Path, offset: int, size: int, files: Mapping[str, bytes], scratch: Path) -> None:
    """Puts files, by path, on the FAT partition in a range of `base`, into existing folders; see `overlay.change`.

    Raises InputError if there is no room for them.
    """

    def write(partition: Path) -> None:
        for number, (name, content) in enumerate(files.items()):
            file = partition.with_name(f"esp-{number}")
            file.write_bytes(content)
            try:
                tools.run("mcopy", "-o", "-i", partition, file, f"::{name}", timeout=_WITHIN)
            except HarnessError as refused:
                if _FULL not in str(refused):
                    raise
                size_in_mib = -(-len(content) >> 20)
                raise InputError(
                    f"The EFI System Partition of {base} has no room for {name} of {size_in_mib} MiB, with all that a node is "
                    "given: make it larger."
                ) from refused

    overlay.change(disk, base, offset, size, write, scratch)


def why_nothing_starts(disk: Disk) -> str:
    """Why firmware finds nothing to start on a disk, in words; empty if there is an EFI binary, or the ESP cannot be read."""
    try:
        found = loader(disk)
    except HarnessError as unread:
        return f"the disk's ESP has no {LOADER}" if "not found" in str(unread) else ""
    return "" if found.startswith(_MAGIC) else f"the disk's {LOADER} is no EFI binary: it does not begin with MZ"
