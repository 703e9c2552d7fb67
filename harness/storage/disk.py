"""A node's disk, read from outside: its partition table, its data partition's filesystem and the files in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.errors import DamagedImageError, InputError, NodeFailure
from harness.storage import ext4, gpt, modules
from harness.storage.ext4 import MOST_READ, Superblock
from harness.storage.gpt import GptError, Partition, Table
from harness.storage.modules import Modules

MODULES, MODULES_SINCE_B = PurePosixPath("/modules"), PurePosixPath("/lib/modules")
"""Folders of kernel modules on a data partition. The init of generation A uses the first one (kiOS contract); kiOS's build
has put them into the second one since generation B, whose init uses none."""
_VERSION = re.compile(r"[\w.+~-]+")


@dataclass(frozen=True)
class Disk:
    """A raw disk image and what its partition table says; `looks` are its size and modification time when it was read."""

    path: Path
    table: Table
    looks: tuple[int, int] | None = field(default=None, compare=False)

    @classmethod
    def read(cls, path: Path, sector_size: int) -> "Disk":
        """Reads a raw image; raises GptError if its primary partition table is not valid."""
        looks = _looks_of(path)
        return cls(path, gpt.read(path, sector_size), looks)

    @property
    def change(self) -> str:
        """That the file is not the one that was read any more, in words; empty if it is."""
        try:
            now = _looks_of(self.path)
        except OSError:
            return f"{self.path} is gone"
        return f"{self.path} was changed" if self.looks and now != self.looks else ""

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.table.disk_sectors * self.table.sector_size

    @property
    def esp(self) -> Partition:
        """The EFI System Partition, found by its type: it is p1 for kiOS, but has other numbers on cloud images."""
        return gpt.find_esp(self.table)

    @property
    def data(self) -> Partition:
        """The data partition, found by its type."""
        return gpt.find_data_partition(self.table)

    def extent(self, partition: Partition) -> tuple[int, int]:
        """The start and length of a partition in bytes."""
        return partition.first * self.table.sector_size, partition.sectors * self.table.sector_size

    def table_problems(self) -> Sequence[str]:
        """Every way in which the partition table does not fit the disk; empty if it is valid and spans the disk."""
        problems = gpt.problems(self.path, self.table)
        if not self.table.enlarged:
            return problems
        ends = f"the backup header is at LBA {self.table.backup_at}; the disk's last sector is {self.table.disk_sectors - 1}"
        return (ends, *problems)

    def superblock(self) -> Superblock:
        """The superblock of the data partition's filesystem."""
        return ext4.read_superblock(self.path, self._data_offset)

    def replay_journal(self) -> None:
        """Replays the journal of the data partition's filesystem, as a mount would; writes to the image."""
        if self.superblock().needs_recovery:
            ext4.replay_journal(self.path, self._data_offset)

    def check_filesystem(self) -> None:
        """Raises NodeFailure unless e2fsck finds the data partition's filesystem clean."""
        ext4.check(self.path, self._data_offset)

    def file(self, path: PurePosixPath, limit: int = MOST_READ) -> bytes:
        """Returns a file of the data partition.

        Raises NodeFailure if it is not there, HarnessError if it is larger than `limit` bytes.
        """
        return ext4.read_file(self.path, self._data_offset, str(path), limit)

    def folder(self, path: PurePosixPath) -> list[str]:
        """Returns the names in a folder of the data partition, sorted; raises NodeFailure if it is not there."""
        return ext4.list_folder(self.path, self._data_offset, str(path))

    def modules(self, folder: PurePosixPath = MODULES) -> Modules:
        """The kernel modules on the data partition."""
        try:
            versions = list(filter(_VERSION.fullmatch, self.folder(folder)))
        except NodeFailure:
            return {}
        listed = {version: self.file_if_there(folder / version / "modules.dep") for version in versions}
        return {version: modules.names_in(text) for version, text in listed.items() if text is not None}

    def has_module(self, name: str) -> bool:
        """Whether the data partition has a kernel module of that name, with - or _ in it."""
        return modules.has(self.modules(), name)

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        """Returns a file of the data partition, None if it is not there."""
        try:
            return self.file(path)
        except NodeFailure:
            return None

    @property
    def _data_offset(self) -> int:
        return self.extent(self.data)[0]


def _looks_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def open_image(path: Path) -> Disk:
    """Reads a kiOS disk image; raises InputError if there is none, DamagedImageError if it is not one or is damaged.

    An image that was enlarged after it was made is accepted, like every node's disk, which is the image enlarged.
    """
    if not path.is_file():
        raise InputError(f"There is no image {path}. Build the reference image: python -m images build")
    try:
        disk = Disk.read(path, gpt.sector_size_of(path))
        problems = gpt.problems(path, disk.table)
        if not problems:
            gpt.find_esp(disk.table)
            gpt.find_data_partition(disk.table)
    except GptError as unfit:
        raise DamagedImageError(f"{path} is no image of a kiOS disk: {unfit}.") from unfit
    if problems:
        raise DamagedImageError(f"{path} is damaged: {'; '.join(problems)}.")
    return disk
