"""Files on the EFI System Partition of a disk that does not run."""

from collections.abc import Mapping
from pathlib import Path

from harness import tools
from harness.storage import overlay


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
