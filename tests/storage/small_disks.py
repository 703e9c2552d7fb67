"""Small partitioned disks: tables of any fields, and where the one with a file system has its data partition."""

import struct
import uuid
import zlib
from pathlib import Path
from typing import Any

from harness.storage.gpt import DATA_PARTITION, Partition

MIB = 1 << 20
START, SIZE = 4 * MIB, 24 * MIB
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LAYOUT = f"""label: gpt
start=2048, size=4096, type={ESP}, uuid=11111111-2222-3333-4444-555555555555, name="kiOS boot"
size=8192, type={DATA_PARTITION}, uuid=66666666-7777-8888-9999-aaaaaaaaaaaa
"""


def partition(number: int, type_guid: uuid.UUID) -> Partition:
    return Partition(number, type_guid, uuid.UUID(int=number), 100 * number, 100 * number + 9, "")


def write(
    path: Path,
    sector_size: int,
    partitions: tuple[Partition, ...],
    primary: dict[str, Any] | None = None,
    backup: dict[str, Any] | None = None,
) -> Path:
    """Writes a disk of 2048 sectors; `primary` and `backup` replace fields of a header before its CRC is made."""
    sectors, entry_sectors = 2048, 16384 // sector_size
    entries = b"".join(
        struct.pack(
            "<16s16sQQQ72s",
            each.type_guid.bytes_le,
            each.guid.bytes_le,
            each.first,
            each.last,
            0,
            each.name.encode("utf-16-le"),
        )
        for each in partitions
    ).ljust(16384, b"\0")

    def header(my_lba: int, other_at: int, entries_at: int, replaced: dict[str, Any] | None) -> bytes:
        fields: dict[str, Any] = {
            "my_lba": my_lba,
            "other_at": other_at,
            "first_usable": 2 + entry_sectors,
            "last_usable": sectors - 2 - entry_sectors,
            "guid": uuid.UUID(int=1).bytes_le,
            "entries_at": entries_at,
            "count": 128,
            "entry_size": 128,
            "entries_crc": zlib.crc32(entries),
        } | (replaced or {})
        tail = struct.pack("<IQQQQ16sQIII", 0, *fields.values())
        head = struct.pack("<8sII", b"EFI PART", 0x10000, 92)
        return head + struct.pack("<I", zlib.crc32(head + bytes(4) + tail)) + tail

    mbr = bytes(450) + b"\xee" + bytes(3) + struct.pack("<II", 1, sectors - 1) + bytes(48) + b"\x55\xaa"
    first = header(1, sectors - 1, 2, primary)
    last = header(sectors - 1, 1, sectors - 1 - entry_sectors, backup)
    with path.open("wb") as disk:
        disk.truncate(sectors * sector_size)
    for lba, data in ((0, mbr), (1, first), (2, entries), (sectors - 1 - entry_sectors, entries), (sectors - 1, last)):
        poke(path, lba * sector_size, data)
    return path


def poke(path: Path, at: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value)


def resize(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
