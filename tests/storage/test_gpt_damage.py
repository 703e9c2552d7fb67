"""Damaged partition tables: each is refused in words that name what is wrong."""

import re
import struct
import uuid
from pathlib import Path

import pytest

from harness import tools
from harness.storage import gpt
from harness.storage.gpt import GptError, Partition
from tests.storage.small_disks import ESP, LAYOUT, MIB, partition, poke, resize, write


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (512, b"EFI FART", "signature b'EFI FART'"),
        (512 + 12, struct.pack("<I", 91), "says it has 91 bytes"),
        (512 + 40, b"\x01", "wrong header CRC"),
        (1024 + 56, b"K", "wrong CRC of the entries at LBA 2"),
    ],
)
def test_a_damaged_primary_is_refused(disk: Path, at: int, value: bytes, says: str) -> None:
    poke(disk, at, value)
    with pytest.raises(GptError, match=re.escape(says)):
        gpt.read(disk, 512)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("my_lba", 7, "says it is at LBA 7"),
        ("entries_at", 1 << 62, "ends before the 16384 bytes"),
        ("count", 0, "0 entries of 128 bytes"),
        ("count", 1 << 31, "entries of 128 bytes"),
        ("entry_size", 96, "128 entries of 96 bytes"),
        ("entry_size", 192, "128 entries of 192 bytes"),
    ],
)
def test_a_primary_with_right_sums_and_wrong_fields_is_refused(tmp_path: Path, field: str, value: int, says: str) -> None:
    path = write(tmp_path / "disk", 512, (), primary={field: value})
    with pytest.raises(GptError, match=re.escape(says)):
        gpt.read(path, 512)


def test_an_enlarged_disk_without_its_backup_is_bad(disk: Path) -> None:
    resize(disk, 32 * MIB)
    poke(disk, 16 * MIB - 512, b"X")
    (problem,) = gpt.problems(disk, gpt.read(disk, 512))
    assert problem.startswith("the backup is bad: the GPT header at LBA 32767 has the signature")


@pytest.mark.parametrize("size", [16 * MIB - 1024, 16 * MIB - 512, 12 * MIB, MIB, 34 * 512])
def test_a_truncated_disk_is_called_so(disk: Path, size: int) -> None:
    resize(disk, size)
    says = f"it is truncated: its table is of a disk of 32768 sectors and it has {size // 512}"
    assert gpt.problems(disk, gpt.read(disk, 512)) == (says,)


def test_a_usable_range_that_ends_inside_the_backup_is_named(tmp_path: Path) -> None:
    more = {"last_usable": 2015}
    path = write(tmp_path / "disk", 512, (), primary=more, backup=more)
    assert gpt.problems(path, gpt.read(path, 512)) == ("the last usable LBA is 2015; the disk allows 2014",)


@pytest.mark.parametrize("record", [1, 2, 3])
def test_a_hybrid_mbr_is_called_so(disk: Path, record: int) -> None:
    poke(disk, 446 + 12, struct.pack("<I", 2047))
    poke(disk, 446 + 16 * record, struct.pack("<B3xB3xII", 0x80, 0xEF, 2048, 4096))
    (problem,) = gpt.problems(disk, gpt.read(disk, 512))
    assert problem.startswith("its MBR is a hybrid: beside the protective record are others, of type 0xef")


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (510, b"\0", "the protective MBR is missing: LBA 0 has no boot signature"),
        (446 + 4, b"\x83", "the protective MBR is missing: LBA 0 has no record of type 0xEE"),
        (446 + 8, struct.pack("<I", 2), "the protective MBR begins at LBA 2; 1 is expected"),
        (446 + 12, struct.pack("<I", 5), "the protective MBR covers 5 sectors; 32767 are expected"),
        (-512, b"X", "the backup is bad: the GPT header at LBA 32767 has the signature"),
        (-512 + 40, b"\x01", "the backup is bad: the GPT header at LBA 32767 has a wrong header CRC"),
        (-33 * 512, b"X", "the backup is bad: the GPT header at LBA 32767 has a wrong CRC of the entries at LBA 32735"),
    ],
)
def test_damage_beside_the_primary_is_named(disk: Path, at: int, value: bytes, says: str) -> None:
    poke(disk, at % (16 * MIB), value)
    (problem,) = gpt.problems(disk, gpt.read(disk, 512))
    assert problem.startswith(says)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("other_at", 9, "the backup header says that the primary is at LBA 9"),
        ("first_usable", 99, "first_usable is 34 in the primary header and 99 in the backup's"),
        ("guid", bytes(16), f"disk_guid is {uuid.UUID(int=1)} in the primary header and {uuid.UUID(int=0)}"),
    ],
)
def test_a_backup_that_differs_is_named(tmp_path: Path, field: str, value: object, says: str) -> None:
    path = write(tmp_path / "disk", 512, (), backup={field: value})
    (problem,) = gpt.problems(path, gpt.read(path, 512))
    assert problem.startswith(says)


def test_entries_that_differ_from_the_backups_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "disk", 512, (partition(1, ESP),))
    other = write(tmp_path / "other", 512, ())
    poke(path, path.stat().st_size - 33 * 512, other.read_bytes()[-33 * 512 :])
    assert gpt.problems(path, gpt.read(path, 512)) == ("the entries of the backup differ from the primary's",)


def test_partitions_that_overlap_or_lie_outside_are_named(tmp_path: Path) -> None:
    partitions = (
        Partition(1, ESP, uuid.uuid4(), 300, 400, ""),
        Partition(2, ESP, uuid.uuid4(), 100, 300, ""),
        Partition(3, ESP, uuid.uuid4(), 33, 50, ""),
        Partition(4, ESP, uuid.uuid4(), 600, 599, ""),
        Partition(5, ESP, uuid.uuid4(), 700, 2048 - 34 + 1, ""),
    )
    path = write(tmp_path / "disk", 512, partitions)
    assert gpt.problems(path, gpt.read(path, 512)) == (
        "partition 3 (33..50) is not inside the usable range 34..2014",
        "partition 4 (600..599) is not inside the usable range 34..2014",
        "partition 5 (700..2015) is not inside the usable range 34..2014",
        "partitions 2 and 1 overlap at LBA 300",
    )


def test_a_usable_range_that_begins_inside_the_table_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "disk", 512, (), primary={"first_usable": 3}, backup={"first_usable": 3})
    assert gpt.problems(path, gpt.read(path, 512)) == ("the first usable LBA is 3, inside the primary table",)


def test_more_sectors_than_the_mbr_can_count(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.touch()
    resize(path, 3 << 40)
    tools.run("sfdisk", "-q", path, input=LAYOUT.encode())
    assert gpt.problems(path, gpt.read(path, 512)) == ()
