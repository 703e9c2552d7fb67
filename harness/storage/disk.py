"""A node's disk, read from outside: its partition table, its data partition's filesystem and the files in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, NodeFailure
from harness.storage import ext4, gpt
from harness.storage.ext4 import Superblock
from harness.storage.gpt import Partition, Table

_ESP = 1


@dataclass(frozen=True)
class Disk:
    """A raw disk image and what its partition table says."""

    path: Path
    table: Table

    @classmethod
    def read(cls, path: Path, sector_size: int) -> "Disk":
        """Reads a raw image; raises GptError if its primary partition table is not valid."""
        return cls(path, gpt.read(path, sector_size))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.table.disk_sectors * self.table.sector_size

    @property
    def esp(self) -> Partition:
        """The EFI System Partition (kiOS contract: p1)."""
        return self.table.partition(_ESP)

    @property
    def data(self) -> Partition:
        """The data partition, found by its type."""
        return gpt.find_data_partition(self.table)

    def table_problems(self) -> Sequence[str]:
        """Every way in which the partition table does not fit the disk; none if it is valid."""
        return gpt.problems(self.path, self.table)

    def superblock(self) -> Superblock:
        """The data partition's filesystem."""
        return ext4.read_superblock(self.path, self._data_offset)

    def check_filesystem(self) -> None:
        """Raises NodeFailure unless e2fsck finds the data partition's filesystem clean."""
        ext4.check(self.path, self._data_offset)

    def file(self, path: PurePosixPath) -> bytes:
        """Returns a file of the data partition; raises NodeFailure if it is not there."""
        return ext4.read_file(self.path, self._data_offset, str(path))

    def has_module(self, name: str) -> bool:
        """Says whether the data partition has a kernel module of that name (kiOS contract: /modules), with - or _ in it."""
        try:
            versions = ext4.list_folder(self.path, self._data_offset, "/modules")
        except NodeFailure:
            return False
        wanted = name.replace("-", "_")
        listed = [self.file_if_there(PurePosixPath("/modules") / version / "modules.dep") or b"" for version in versions]
        files = [PurePosixPath(line.partition(b":")[0].decode()) for text in listed for line in text.splitlines()]
        return wanted in {file.name.partition(".ko")[0].replace("-", "_") for file in files}

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        """Returns a file of the data partition, None if it is not there."""
        try:
            return self.file(path)
        except NodeFailure:
            return None

    @property
    def _data_offset(self) -> int:
        return self.data.first * self.table.sector_size


def open_image(path: Path) -> Disk:
    """Reads a kiOS disk image; raises HarnessError that says what it is not."""
    if not path.is_file():
        raise HarnessError(f"There is no image {path}. Build the reference image: python -m images build")
    disk = Disk.read(path, gpt.sector_size_of(path))
    problems = disk.table_problems()
    if problems:
        raise HarnessError(f"{path} is damaged: {'; '.join(problems)}")
    gpt.find_data_partition(disk.table)
    return disk
