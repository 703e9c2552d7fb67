"""Files on the EFI System Partition of a disk that does not run, and whether a firmware finds one there to start."""

from collections.abc import Mapping
from pathlib import Path

from harness import tools
from harness.errors import HarnessError
from harness.storage import overlay
from harness.storage.disk import Disk

# Where firmware looks (UEFI 2.10, 3.5.1.1), and how each EFI binary begins (2.1.1).
_LOADER = "EFI/Boot/Bootx64.efi"
_MAGIC = b"MZ"
_MOST = 2 << 30
_WITHIN = 120.0


def loader(disk: Disk) -> bytes:
    """Returns the EFI binary that a firmware starts from a disk.

    Raises HarnessError if it is not there, or the partition is larger than any kiOS's.
    """
    start, size = (disk.table.sector_size * sectors for sectors in (disk.esp.first, disk.esp.sectors))
    if size > _MOST:
        raise HarnessError(f"an EFI System Partition of {size >> 20} MiB is not read")
    return tools.run("mcopy", "-n", "-i", f"{disk.path.absolute()}@@{start}", f"::{_LOADER}", "-", timeout=_WITHIN).stdout


def put(disk: Path, base: Path, offset: int, size: int, files: Mapping[str, bytes], scratch: Path) -> None:
    """Puts files by name at the top of the FAT partition in a range of `base`; see `overlay.change`.

    HarnessError if there is no room for them.
    """

    def write(partition: Path) -> None:
        for name, content in files.items():
            file = partition.with_name(f"esp-{name}")
            file.write_bytes(content)
            tools.run("mcopy", "-o", "-i", partition, file, f"::{name}")

    overlay.change(disk, base, offset, size, write, scratch)


def why_nothing_starts(disk: Disk) -> str:
    """Why a firmware finds nothing to start on a disk, in words; empty if it has an EFI binary, or cannot be read."""
    try:
        found = loader(disk)
    except HarnessError as unread:
        return f"the disk's ESP has no {_LOADER}" if "not found" in str(unread) else ""
    return "" if found.startswith(_MAGIC) else f"the disk's {_LOADER} is no EFI binary: it does not begin with MZ"
