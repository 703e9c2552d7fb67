"""The reader of partition tables against sfdisk, and against tables of every layout."""

import contextlib
import json
import struct
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import tools
from harness.errors import HarnessError
from harness.storage import disk as disk_module
from harness.storage import gpt
from harness.storage.disk import Disk
from harness.storage.gpt import DATA_PARTITION, GptError, Partition
from tests.storage.small_disks import ESP, MIB, partition, poke, resize, write


def test_it_reads_what_sfdisk_reads(disk: Path) -> None:
    theirs: dict[str, Any] = json.loads(tools.run("sfdisk", "--json", disk).stdout)["partitiontable"]
    table = gpt.read(disk, 512)
    assert (table.disk_guid, table.first_usable, table.last_usable, table.sector_size) == (
        uuid.UUID(theirs["id"]),
        theirs["firstlba"],
        theirs["lastlba"],
        theirs["sectorsize"],
    )
    assert [(each.type_guid, each.guid, each.first, each.sectors, each.name) for each in table.partitions] == [
        (uuid.UUID(row["type"]), uuid.UUID(row["uuid"]), row["start"], row["size"], row.get("name", ""))
        for row in theirs["partitions"]
    ]
    assert table.disk_sectors == 32768
    assert table.backup_at == 32767
    assert gpt.problems(disk, table) == ()


def test_it_finds_partitions_by_number_and_type(disk: Path) -> None:
    table = gpt.read(disk, gpt.sector_size_of(disk))
    assert gpt.find_data_partition(table) == table.partition(2) == table.of_type(DATA_PARTITION)[0]
    with pytest.raises(GptError, match="no partition 3"):
        table.partition(3)


@pytest.mark.parametrize("types", [(ESP,), (DATA_PARTITION, DATA_PARTITION)])
def test_one_data_partition_is_expected(tmp_path: Path, types: tuple[uuid.UUID, ...]) -> None:
    partitions = tuple(partition(number, type_guid) for number, type_guid in enumerate(types, start=1))
    table = gpt.read(write(tmp_path / "disk", 512, partitions), 512)
    numbers = r" \(1 and 2\)" if types.count(DATA_PARTITION) else ""
    with pytest.raises(
        GptError, match=f"has {types.count(DATA_PARTITION)} partitions of type {DATA_PARTITION}{numbers}, kiOS's"
    ):
        gpt.find_data_partition(table)


def test_a_file_without_a_table_is_no_disk_image(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(MIB))
    with pytest.raises(GptError, match="not a GPT disk image"):
        gpt.sector_size_of(path)
    path.write_bytes(b"")
    with pytest.raises(GptError, match="ends before"):
        gpt.read(path, 512)


def test_an_enlarged_disk_is_told_and_its_table_is_good(disk: Path) -> None:
    assert not gpt.read(disk, 512).enlarged
    resize(disk, 32 * MIB)
    table = gpt.read(disk, 512)
    assert table.enlarged
    assert gpt.problems(disk, table) == ()
    assert Disk(disk, table).table_problems() == ("the backup header is at LBA 32767; the disk's last sector is 65535",)


@pytest.mark.parametrize("more", [1, 102, 511, 513])
def test_a_disk_that_ends_inside_a_sector_is_filled_up(disk: Path, more: int) -> None:
    resize(disk, 16 * MIB + more)
    table = gpt.read(disk, 512)
    assert table.disk_sectors == 32768 + -(-more // 512)
    assert gpt.problems(disk, table) == ()


@pytest.mark.parametrize("sectors", [0xFFFFFFFF, 32767])
def test_a_protective_mbr_may_leave_its_sectors_uncounted(disk: Path, sectors: int) -> None:
    poke(disk, 446 + 12, struct.pack("<I", sectors))
    assert gpt.problems(disk, gpt.read(disk, 512)) == ()


def test_a_disk_may_leave_room_before_its_backup(tmp_path: Path) -> None:
    less = {"last_usable": 1900}
    path = write(tmp_path / "disk", 512, (), primary=less, backup=less)
    assert gpt.problems(path, gpt.read(path, 512)) == ()


def test_the_esp_is_found_by_its_type(tmp_path: Path) -> None:
    table = gpt.read(write(tmp_path / "disk", 512, (partition(1, DATA_PARTITION), partition(2, ESP))), 512)
    assert gpt.find_esp(table) == table.partition(2)
    table = gpt.read(write(tmp_path / "disk", 512, (partition(1, DATA_PARTITION),)), 512)
    with pytest.raises(GptError, match="has no EFI System Partition"):
        gpt.find_esp(table)


@pytest.mark.parametrize("kinds", [(0xEF, 0x83), (0x83,), (0, 0x0C)])
def test_a_disk_with_an_mbr_alone_is_called_so(tmp_path: Path, kinds: tuple[int, ...]) -> None:
    path = tmp_path / "disk.raw"
    records = b"".join(struct.pack("<B3xB3xII", 0x80, kind, 2048, 4096) for kind in kinds)
    path.write_bytes(bytes(446) + records.ljust(64, b"\0") + b"\x55\xaa" + bytes(MIB))
    with pytest.raises(GptError, match=r"has an MBR and no GPT, as `create-image --mbr` makes it"):
        gpt.sector_size_of(path)


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").touch()
    with pytest.raises(GptError, match="is an empty file"):
        gpt.sector_size_of(tmp_path / "disk.raw")


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(bytes(446) + b"Disk error, press any key to restart your computer".ljust(64) + b"\x55\xaa", id="volume"),
        pytest.param(bytes(450) + b"\xee" + bytes(3) + struct.pack("<II", 1, 99) + bytes(48) + b"\x55\xaa", id="GPT lost"),
        pytest.param(b"\x55\xaa", id="short"),
    ],
)
def test_what_has_no_mbr_is_not_said_to_have_one(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(start)
    with pytest.raises(GptError, match="is not a GPT disk image"):
        gpt.sector_size_of(path)


_layouts = st.builds(
    lambda cuts, names: tuple(
        Partition(number, DATA_PARTITION, uuid.UUID(int=number), first, last - 1, name)
        for number, (first, last, name) in enumerate(zip(cuts[::2], cuts[1::2], names, strict=False), start=1)
    ),
    st.lists(st.integers(34, 2000), unique=True, max_size=16).map(sorted),
    st.lists(st.text(st.characters(codec="utf-16-le", exclude_characters="\0"), max_size=18), min_size=8, max_size=8),
)


@settings(max_examples=40, deadline=None)
@given(partitions=_layouts, sector_size=st.sampled_from([512, 4096]))
def test_every_layout_reads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, partitions: tuple[Partition, ...], sector_size: int
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "layout", sector_size, partitions)
    assert gpt.sector_size_of(path) == sector_size
    table = gpt.read(path, sector_size)
    assert table.partitions == partitions
    assert gpt.problems(path, table) == ()


_HEADER_FIELDS = ("my_lba", "other_at", "first_usable", "last_usable", "entries_at", "count", "entry_size", "entries_crc")
_wide = st.one_of(st.integers(0, 3000), st.integers(0, (1 << 64) - 1))
_NARROW_FIELDS = ("count", "entry_size", "entries_crc")


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(_HEADER_FIELDS), _wide, max_size=2),
    st.dictionaries(st.sampled_from(_HEADER_FIELDS), _wide, max_size=2),
    st.lists(st.tuples(_wide, _wide), max_size=4),
    st.dictionaries(st.integers(0, 2048 * 512 - 1), st.binary(min_size=1, max_size=16), max_size=3),
    st.integers(0, 3000 * 512),
)
def test_any_disk_is_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory,
    primary: dict[str, int],
    backup: dict[str, int],
    ranges: list[tuple[int, int]],
    pokes: dict[int, bytes],
    size: int,
) -> None:
    def fits(fields: dict[str, int]) -> dict[str, Any]:
        return {name: value & 0xFFFFFFFF if name in _NARROW_FIELDS else value for name, value in fields.items()}

    partitions = tuple(Partition(n, DATA_PARTITION, uuid.UUID(int=n), *each, "") for n, each in enumerate(ranges, 1))
    path = write(tmp_path_factory.getbasetemp() / "any", 512, partitions, fits(primary), fits(backup))
    for at, value in pokes.items():
        poke(path, at, value)
    resize(path, size)
    for sector_size in (512, 4096):
        with contextlib.suppress(GptError):
            gpt.problems(path, gpt.read(path, sector_size))
    with contextlib.suppress(HarnessError):
        disk_module.open_image(path)
    with contextlib.suppress(HarnessError):
        disk_module.open_image(path)
