"""The GUID partition table of a raw disk image, read and checked but never written (UEFI 2.10, chapter 5)."""

import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from harness.errors import NodeFailure

DATA_PARTITION = uuid.UUID("97aac693-d920-465a-94fe-eb59fc86dfaa")
"""The type of the partition on which kiOS keeps its data."""

SIGNATURE = b"EFI PART"
SECTOR_SIZES = (512, 4096)
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
"""The type of an EFI System Partition."""

_MBR_RECORD = struct.Struct("<B3xB3xII")
_PROTECTIVE = 0xEE
_UNCOUNTED = 0xFFFFFFFF
_MOST_ENTRY_BYTES = 1 << 20


class GptError(NodeFailure):
    """A disk has no readable partition table, or not the partition that was asked for.

    On a disk that a node has left, this is the node's failure; for an image, the caller raises DamagedImageError instead.
    """


@dataclass(frozen=True)
class Partition:
    """One used entry; `first` and `last` are LBAs, both part of the partition (UEFI 2.10, 5.3.3)."""

    number: int
    type_guid: uuid.UUID
    guid: uuid.UUID
    first: int
    last: int
    name: str

    @property
    def sectors(self) -> int:
        """The length in sectors."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Table:
    """The content of the primary header and its entries, in LBAs; `disk_sectors` is the size of the image file itself."""

    sector_size: int
    disk_sectors: int
    disk_guid: uuid.UUID
    first_usable: int
    last_usable: int
    backup_at: int
    partitions: tuple[Partition, ...]

    @property
    def enlarged(self) -> bool:
        """Whether the disk is larger than its table says: it was enlarged after it was partitioned."""
        return self.backup_at < self.disk_sectors - 1

    def partition(self, number: int) -> Partition:
        """Returns the partition `number` (from 1); raises GptError if there is none."""
        for partition in self.partitions:
            if partition.number == number:
                return partition
        raise GptError(f"the disk has no partition {number}, only {[each.number for each in self.partitions]}")

    def of_type(self, guid: uuid.UUID) -> tuple[Partition, ...]:
        """Returns the partitions of one type, ordered by number."""
        return tuple(partition for partition in self.partitions if partition.type_guid == guid)


def sector_size_of(path: Path) -> int:
    """Returns the sector size, in bytes, for which `path` was partitioned, as the place of its header shows."""
    with path.open("rb") as image:
        for size in SECTOR_SIZES:
            image.seek(size)
            if image.read(len(SIGNATURE)) == SIGNATURE:
                return size
        records = _mbr_records(_Disk(image, 512).read(0, 512)) if image.seek(0, 2) else []
    kinds = [record.kind for record in records]
    if kinds and _PROTECTIVE not in kinds and all(record.plausible for record in records):
        raise GptError(f"{path} has an MBR and no GPT, as `create-image --mbr` makes it: make the image without --mbr")
    if not path.stat().st_size:
        raise GptError(f"{path} is an empty file")
    raise GptError(f"{path} is not a GPT disk image: 'EFI PART' is expected at byte 512 or 4096 of a raw image")


def read(path: Path, sector_size: int) -> Table:
    """Reads the primary table of a raw image; raises GptError, with the reason, for a table that firmware would reject."""
    with path.open("rb") as image:
        disk = _Disk(image, sector_size)
        primary = _Copy.read(disk, 1)
        return Table(
            sector_size=sector_size,
            disk_sectors=disk.sectors,
            disk_guid=primary.disk_guid,
            first_usable=primary.first_usable,
            last_usable=primary.last_usable,
            backup_at=primary.other_at,
            partitions=tuple(primary.partitions()),
        )


def problems(path: Path, table: Table) -> tuple[str, ...]:
    """Returns every way in which `table`, read from `path`, is invalid, a line each.

    A table that ends before its disk is judged by its own end; see `Table.enlarged`.
    """
    if table.backup_at >= table.disk_sectors:
        return (f"it is truncated: its table is of a disk of {table.backup_at + 1} sectors and it has {table.disk_sectors}",)
    with path.open("rb") as image:
        disk = _Disk(image, table.sector_size)
        primary = _Copy.read(disk, 1)
        return (
            *_mbr_problems(disk, primary.other_at),
            *_backup_problems(disk, primary),
            *_range_problems(disk, primary),
            *_partition_problems(table),
        )


def find_esp(table: Table) -> Partition:
    """Returns the EFI System Partition, the first one if there are several; raises GptError if there is none."""
    found = table.of_type(ESP)
    if not found:
        raise GptError(f"the disk has no EFI System Partition (type {ESP}), from which the firmware starts kiOS")
    return found[0]


def find_data_partition(table: Table) -> Partition:
    """Returns the one partition that kiOS takes for its data; raises GptError if there is none or more than one."""
    found = table.of_type(DATA_PARTITION)
    if len(found) != 1:
        numbers = f" ({' and '.join(str(partition.number) for partition in found)})" if found else ""
        raise GptError(f"the disk has {len(found)} partitions of type {DATA_PARTITION}{numbers}, kiOS's data; 1 is expected")
    return found[0]


class _Disk:
    """A raw image in sectors; an incomplete last sector is filled up with zeros, as QEMU does."""

    def __init__(self, image: BinaryIO, sector_size: int) -> None:
        self._image = image
        self.sector_size = sector_size
        self.sectors = -(-image.seek(0, 2) // sector_size)

    def read(self, lba: int, size: int) -> bytes:
        if lba * self.sector_size + size > self.sectors * self.sector_size:
            raise GptError(f"the disk of {self.sectors} sectors ends before the {size} bytes at LBA {lba}")
        self._image.seek(lba * self.sector_size)
        return self._image.read(size).ljust(size, b"\0")


@dataclass(frozen=True)
class _Copy:
    """One of the two copies of the table: a valid header, and its entries (UEFI 2.10, 5.3.2)."""

    other_at: int
    first_usable: int
    last_usable: int
    disk_guid: uuid.UUID
    entry_size: int
    entries: bytes

    @classmethod
    def read(cls, disk: _Disk, lba: int) -> "_Copy":
        sector = disk.read(lba, disk.sector_size)
        fields = _HEADER.unpack_from(sector)
        signature, _, size, crc, _, my_lba, other_at, first, last, guid, entries_at, count, entry_size, sum_ = fields
        where = f"the GPT header at LBA {lba}"
        if signature != SIGNATURE:
            raise GptError(f"{where} has the signature {signature!r} in place of {SIGNATURE!r}")
        if not _HEADER.size <= size <= disk.sector_size:
            raise GptError(f"{where} says it has {size} bytes, not {_HEADER.size} to {disk.sector_size}")
        if zlib.crc32(sector[:16] + bytes(4) + sector[20:size]) != crc:
            raise GptError(f"{where} has a wrong header CRC")
        if my_lba != lba:
            raise GptError(f"{where} says it is at LBA {my_lba}")
        # The specification says 128 times a power of two.
        if entry_size < _ENTRY.size or entry_size & (entry_size - 1) or not 0 < count * entry_size <= _MOST_ENTRY_BYTES:
            raise GptError(f"{where} has {count} entries of {entry_size} bytes, which no partition table has")
        entries = disk.read(entries_at, count * entry_size)
        if zlib.crc32(entries) != sum_:
            raise GptError(f"{where} has a wrong CRC of the entries at LBA {entries_at}")
        return cls(other_at, first, last, uuid.UUID(bytes_le=guid), entry_size, entries)

    def partitions(self) -> Iterator[Partition]:
        for number, start in enumerate(range(0, len(self.entries), self.entry_size), start=1):
            type_guid, guid, first, last, _, name = _ENTRY.unpack_from(self.entries, start)
            if any(type_guid):
                text = name.decode("utf-16-le", errors="replace").partition("\0")[0]
                yield Partition(number, uuid.UUID(bytes_le=type_guid), uuid.UUID(bytes_le=guid), first, last, text)


@dataclass(frozen=True)
class _MbrRecord:
    status: int
    kind: int
    first: int
    sectors: int

    @property
    def plausible(self) -> bool:
        """Whether it can be a record: boot code and text have other bytes in the places of status and length."""
        return self.status in (0, 0x80) and self.sectors > 0


def _mbr_records(mbr: bytes) -> list[_MbrRecord]:
    """The records in use; none if LBA 0 is not an MBR (UEFI 2.10, 5.2.1)."""
    if mbr[510:] != b"\x55\xaa":
        return []
    records = (_MbrRecord(*_MBR_RECORD.unpack_from(mbr, at)) for at in range(446, 510, 16))
    return [record for record in records if record.kind]


def _mbr_problems(disk: _Disk, last: int) -> Iterator[str]:
    """UEFI 2.10, 5.2.3: one record of type 0xEE spans the disk that ends at `last`.

    Where it does not count the sectors, it has 0xFFFFFFFF of them. Several tools write that on small disks too, and Linux
    takes it (is_pmbr_valid of its block/partitions/efi.c).
    """
    mbr = disk.read(0, 512)
    if mbr[510:] != b"\x55\xaa":
        yield "the protective MBR is missing: LBA 0 has no boot signature"
        return
    records = _mbr_records(mbr)
    protective = [record for record in records if record.kind == _PROTECTIVE]
    others = [f"{record.kind:#04x}" for record in records if record.kind != _PROTECTIVE]
    due = {min(end, _UNCOUNTED) for end in (last, disk.sectors - 1)} | {_UNCOUNTED}
    if not protective:
        yield "the protective MBR is missing: LBA 0 has no record of type 0xEE"
    elif others:
        yield f"its MBR is a hybrid: beside the protective record are others, of type {', '.join(others)}; kiOS's has none"
    elif protective[0].first != 1:
        yield f"the protective MBR begins at LBA {protective[0].first}; 1 is expected"
    elif protective[0].sectors not in due:
        yield f"the protective MBR covers {protective[0].sectors} sectors; {min(last, _UNCOUNTED)} are expected"


def _backup_problems(disk: _Disk, primary: _Copy) -> Iterator[str]:
    try:
        backup = _Copy.read(disk, primary.other_at)
    except GptError as error:
        yield f"the backup is bad: {error}"
        return
    if backup.other_at != 1:
        yield f"the backup header says that the primary is at LBA {backup.other_at}"
    if backup.entries != primary.entries:
        yield "the entries of the backup differ from the primary's"
    for name in ("disk_guid", "first_usable", "last_usable"):
        ours, theirs = getattr(primary, name), getattr(backup, name)
        if ours != theirs:
            yield f"{name} is {ours} in the primary header and {theirs} in the backup's"


def _range_problems(disk: _Disk, primary: _Copy) -> Iterator[str]:
    entry_sectors = -(-len(primary.entries) // disk.sector_size)
    # The backup's entries and its header come after the last usable sector. Some tools leave more room there.
    most = primary.other_at - entry_sectors - 1
    if primary.last_usable > most:
        yield f"the last usable LBA is {primary.last_usable}; the disk allows {most}"
    if primary.first_usable < 2 + entry_sectors:
        yield f"the first usable LBA is {primary.first_usable}, inside the primary table"


def _partition_problems(table: Table) -> Iterator[str]:
    for each in table.partitions:
        if not table.first_usable <= each.first <= each.last <= table.last_usable:
            usable = f"{table.first_usable}..{table.last_usable}"
            yield f"partition {each.number} ({each.first}..{each.last}) is not inside the usable range {usable}"
    for left, right in pairwise(sorted(table.partitions, key=lambda each: each.first)):
        if right.first <= left.last:
            yield f"partitions {left.number} and {right.number} overlap at LBA {right.first}"
