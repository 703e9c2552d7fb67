"""Files on the EFI System Partition of a disk that does not run."""

from collections.abc import Mapping
from pathlib import Path

from harness import tools
from harness.errors import HarnessError
from harness.storage import overlay

_MOST = 2 << 30
_WITHIN = 120.0


def read(disk: Path, offset: int, size: int, path: str) -> bytes:
    """Returns a file by its path, as `EFI/Boot/Bootx64.efi`, on the FAT partition in a range of a raw disk.

    Raises HarnessError if it is not there, or the partition is larger than any kiOS's.
    """
    if size > _MOST:
        raise HarnessError(f"an EFI System Partition of {size >> 20} MiB is not read")
    return tools.run("mcopy", "-n", "-i", f"{disk.absolute()}@@{offset}", f"::{path}", "-", timeout=_WITHIN).stdout


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
