"""The disk image: GPT, an EFI System Partition with the EFI binary, and the data partition; in more than one layout."""

import os
import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import command, tree
from images.errors import BuildError

ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
DATA_TYPE = uuid.UUID("97aac693-d920-465a-94fe-eb59fc86dfaa")

_KIB, _MIB = 1 << 10, 1 << 20
FIRST_PARTITION = 2048 * 512
_ENTRIES, _ENTRY_SIZE = 128, 128
_LARGEST = 1 << 30
_DATA_OVER_CONTENT = 1.5
# The journal and the inode tables of a small ext4: without room for them too, a node would be near the 15 % of free space
# below which its kubelet evicts pods.
_FILESYSTEM_ITSELF = 12 * _MIB


@dataclass(frozen=True)
class Extent:
    """A partition to be: its type, name and place in bytes."""

    type_guid: uuid.UUID
    name: str
    start: int
    size: int


@dataclass(frozen=True)
class Stretch:
    """A filesystem that is there already, as a range of a file in bytes."""

    file: Path
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """How large all of a disk is made, in bytes: its sectors, p1 by the EFI binary, p2 by the folder of its contents.

    `filesystem` are mke2fs's options for p2, `tail` is what comes behind it.
    """

    sector_size: int
    filesystem: Sequence[str]
    esp_size: Callable[[Path], int]
    data_size: Callable[[Path], int]
    tail: int


def roomy(sector_size: int, spare: int = 0, esp_spare: int = 0) -> Layout:
    """Everything on whole MiB, and p2 half as large again as its contents, as kiOS makes it.

    p2 has `spare` bytes more, p1 `esp_spare`.
    """
    return Layout(
        sector_size,
        ("-b", "4096", "-m", "1"),
        lambda efi: _round_up(efi.stat().st_size + 8 * _MIB + esp_spare),
        lambda data: _round_up(int(_disk_usage(data) * _DATA_OVER_CONTENT) + _FILESYSTEM_ITSELF + spare),
        _MIB,
    )


# As kiOS's create-image lays a released disk out: p1 twice the size of its contents, p2 full to two thirds, both in KiB as it
# comes, so that p2 begins off the MiB; blocks of 1 KiB, mke2fs's choice below 512 MB. In half of all cases p2 is no whole
# number of 4 KiB, and resize2fs fails where there is nothing to grow: here always.
CREATE_IMAGE = Layout(
    512,
    ("-b", "1024"),
    lambda efi: 2 * (-(-efi.stat().st_size // _KIB) + 12) * _KIB,
    lambda data: (int(_disk_usage(data) // _KIB * _DATA_OVER_CONTENT) // 4 * 4 + 2) * _KIB,
    33 * 512,
)


def write(efi: Path, data: Path | Stretch, image: Path, layout: Layout, log: Path) -> None:
    """Writes a raw disk image; `efi` becomes EFI/Boot/Bootx64.efi on p1.

    `data` is the folder that p2 holds, for an image of under 1 GB, or what p2 is as a whole.
    """
    theirs = data if isinstance(data, Stretch) else None
    data_size = layout.data_size(data) if isinstance(data, Path) else data.size
    esp_size, sector_size = layout.esp_size(efi), layout.sector_size
    extents = (
        Extent(ESP_TYPE, "ESP", FIRST_PARTITION, esp_size),
        Extent(DATA_TYPE, "datapart", FIRST_PARTITION + esp_size, data_size),
    )
    disk_size = extents[-1].start + data_size + layout.tail
    if disk_size >= _LARGEST and not theirs:
        raise BuildError(
            f"The image would take {disk_size >> 20} MiB; released kiOS images stay under 1 GB.",
            "Leave containers out of it, or strip the modules (make INSTALL_MOD_STRIP=1 modules_install).",
        )
    parts = (image.with_suffix(".p1"), image.with_suffix(".p2"))
    _make_esp(efi, parts[0], esp_size, sector_size, log)
    if isinstance(data, Path):
        _make_data(data, parts[1], data_size, layout.filesystem, log)
    contents = (Stretch(parts[0], 0, esp_size), theirs or Stretch(parts[1], 0, data_size))
    with image.open("wb") as disk:
        disk.truncate(disk_size)
        _write_gpt(disk.fileno(), disk_size // sector_size, sector_size, extents)
        for extent, content in zip(extents, contents, strict=True):
            _copy_sparse(content, disk.fileno(), extent.start)
    for part in parts:
        part.unlink(missing_ok=True)


def _make_esp(efi: Path, part: Path, size: int, sector_size: int, log: Path) -> None:
    with part.open("wb") as file:
        file.truncate(size)
    command.run(["mkfs.vfat", "-S", str(sector_size), "-i", "6b696f73", "--invariant", part], log=log)
    command.run(["mmd", "-i", part, "::EFI", "::EFI/Boot"], log=log)
    command.run(["mcopy", "-m", "-i", part, efi, "::EFI/Boot/Bootx64.efi"], log=log)


def _make_data(data: Path, part: Path, size: int, options: Sequence[str], log: Path) -> None:
    with part.open("wb") as file:
        file.truncate(size)
    identity = str(uuid.uuid5(DATA_TYPE, "reference node"))
    # fakeroot: the files belong to whoever builds, and to root on the node
    command.run(
        [
            "fakeroot",
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            *options,
            "-L",
            "datapart",
            "-U",
            identity,
            "-d",
            data,
            part,
            # Said, it is kept as it is: of a file's own size mke2fs leaves what is no whole number of pages.
            f"{size >> 10}k",
        ],
        log=log,
        env={"SOURCE_DATE_EPOCH": "0"},
    )


def _write_gpt(disk: int, sectors: int, sector_size: int, extents: Sequence[Extent]) -> None:
    """UEFI specification 2.10, chapter 5: a protective MBR, the table, and its backup at the disk's end."""
    entries = b"".join(
        struct.pack(
            "<16s16sQQQ72s",
            extent.type_guid.bytes_le,
            uuid.uuid5(extent.type_guid, "reference node").bytes_le,
            extent.start // sector_size,
            (extent.start + extent.size) // sector_size - 1,
            0,
            extent.name.encode("utf-16-le"),
        )
        for extent in extents
    ).ljust(_ENTRIES * _ENTRY_SIZE, b"\0")
    entry_sectors = len(entries) // sector_size
    last = sectors - 1
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    os.pwrite(disk, bytes(446) + protective + bytes(48) + b"\x55\xaa", 0)
    for mine, other, table in ((1, last, 2), (last, 1, last - entry_sectors)):
        header = _header(mine, other, table, entries, entry_sectors, last)
        os.pwrite(disk, header, mine * sector_size)
        os.pwrite(disk, entries, table * sector_size)


def _header(mine: int, other: int, table: int, entries: bytes, entry_sectors: int, last: int) -> bytes:
    identity = uuid.uuid5(DATA_TYPE, "reference disk")

    def packed(crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            92,
            crc,
            0,
            mine,
            other,
            2 + entry_sectors,
            last - entry_sectors - 1,
            identity.bytes_le,
            table,
            _ENTRIES,
            _ENTRY_SIZE,
            zlib.crc32(entries),
        )

    return packed(zlib.crc32(packed(0)))


def _copy_sparse(content: Stretch, disk: int, at: int) -> None:
    with content.file.open("rb") as file:
        file.seek(content.start)
        end = at + content.size
        while at < end and (block := file.read(min(_MIB, end - at))):
            if block.count(0) != len(block):
                os.pwrite(disk, block, at)
            at += len(block)


def _disk_usage(folder: Path) -> int:
    return sum(-(-path.lstat().st_size // 4096) * 4096 + 256 for path in tree.below(folder))


def _round_up(size: int) -> int:
    return -(-size // _MIB) * _MIB
