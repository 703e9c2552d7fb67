"""The reader of partition tables against sfdisk, against damage, and against tables of every layout."""

import contextlib
import json
import re
import shutil
import struct
import uuid
import zlib
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

_MIB = 1 << 20
_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_LAYOUT = f"""label: gpt
start=2048, size=4096, type={_ESP}, uuid=11111111-2222-3333-4444-555555555555, name="kiOS boot"
size=8192, type={DATA_PARTITION}, uuid=66666666-7777-8888-9999-aaaaaaaaaaaa
"""


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 16 MiB with 512 byte sectors, as sfdisk partitions it; no test may write to it."""
    path = tmp_path_factory.mktemp("partitioned") / "disk.raw"
    path.touch()
    _resize(path, 16 * _MIB)
    tools.run("sfdisk", "-q", path, input=_LAYOUT.encode())
    return path


@pytest.fixture
def disk(partitioned: Path, tmp_path: Path) -> Path:
    """A copy of that disk to be damaged: sfdisk itself takes a quarter of a second."""
    return Path(shutil.copyfile(partitioned, tmp_path / "disk.raw"))


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


@pytest.mark.parametrize("types", [(_ESP,), (DATA_PARTITION, DATA_PARTITION)])
def test_one_data_partition_is_expected(tmp_path: Path, types: tuple[uuid.UUID, ...]) -> None:
    partitions = tuple(_partition(number, type_guid) for number, type_guid in enumerate(types, start=1))
    table = gpt.read(_write(tmp_path / "disk", 512, partitions), 512)
    numbers = r" \(1 and 2\)" if types.count(DATA_PARTITION) else ""
    with pytest.raises(
        GptError, match=f"has {types.count(DATA_PARTITION)} partitions of type {DATA_PARTITION}{numbers}, kiOS's"
    ):
        gpt.find_data_partition(table)


def test_a_file_without_a_table_is_no_disk_image(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(_MIB))
    with pytest.raises(GptError, match="not a GPT disk image"):
        gpt.sector_size_of(path)
    path.write_bytes(b"")
    with pytest.raises(GptError, match="ends before"):
        gpt.read(path, 512)


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
    _poke(disk, at, value)
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
    path = _write(tmp_path / "disk", 512, (), primary={field: value})
    with pytest.raises(GptError, match=re.escape(says)):
        gpt.read(path, 512)


def test_an_enlarged_disk_is_told_and_its_table_is_good(disk: Path) -> None:
    assert not gpt.read(disk, 512).enlarged
    _resize(disk, 32 * _MIB)
    table = gpt.read(disk, 512)
    assert table.enlarged
    assert gpt.problems(disk, table) == ()
    assert Disk(disk, table).table_problems() == ("the backup header is at LBA 32767; the disk's last sector is 65535",)


def test_an_enlarged_disk_without_its_backup_is_bad(disk: Path) -> None:
    _resize(disk, 32 * _MIB)
    _poke(disk, 16 * _MIB - 512, b"X")
    (problem,) = gpt.problems(disk, gpt.read(disk, 512))
    assert problem.startswith("the backup is bad: the GPT header at LBA 32767 has the signature")


@pytest.mark.parametrize("size", [16 * _MIB - 1024, 16 * _MIB - 512, 12 * _MIB, _MIB, 34 * 512])
def test_a_truncated_disk_is_called_so(disk: Path, size: int) -> None:
    _resize(disk, size)
    says = f"it is truncated: its table is of a disk of 32768 sectors and it has {size // 512}"
    assert gpt.problems(disk, gpt.read(disk, 512)) == (says,)


@pytest.mark.parametrize("more", [1, 102, 511, 513])
def test_a_disk_that_ends_inside_a_sector_is_filled_up(disk: Path, more: int) -> None:
    _resize(disk, 16 * _MIB + more)
    table = gpt.read(disk, 512)
    assert table.disk_sectors == 32768 + -(-more // 512)
    assert gpt.problems(disk, table) == ()


@pytest.mark.parametrize("sectors", [0xFFFFFFFF, 32767])
def test_a_protective_mbr_may_leave_its_sectors_uncounted(disk: Path, sectors: int) -> None:
    _poke(disk, 446 + 12, struct.pack("<I", sectors))
    assert gpt.problems(disk, gpt.read(disk, 512)) == ()


def test_a_disk_may_leave_room_before_its_backup(tmp_path: Path) -> None:
    less = {"last_usable": 1900}
    path = _write(tmp_path / "disk", 512, (), primary=less, backup=less)
    assert gpt.problems(path, gpt.read(path, 512)) == ()


def test_a_usable_range_that_ends_inside_the_backup_is_named(tmp_path: Path) -> None:
    more = {"last_usable": 2015}
    path = _write(tmp_path / "disk", 512, (), primary=more, backup=more)
    assert gpt.problems(path, gpt.read(path, 512)) == ("the last usable LBA is 2015; the disk allows 2014",)


def test_the_esp_is_found_by_its_type(tmp_path: Path) -> None:
    table = gpt.read(_write(tmp_path / "disk", 512, (_partition(1, DATA_PARTITION), _partition(2, _ESP))), 512)
    assert gpt.find_esp(table) == table.partition(2)
    table = gpt.read(_write(tmp_path / "disk", 512, (_partition(1, DATA_PARTITION),)), 512)
    with pytest.raises(GptError, match="has no EFI System Partition"):
        gpt.find_esp(table)


@pytest.mark.parametrize("kinds", [(0xEF, 0x83), (0x83,), (0, 0x0C)])
def test_a_disk_with_an_mbr_alone_is_called_so(tmp_path: Path, kinds: tuple[int, ...]) -> None:
    path = tmp_path / "disk.raw"
    records = b"".join(struct.pack("<B3xB3xII", 0x80, kind, 2048, 4096) for kind in kinds)
    path.write_bytes(bytes(446) + records.ljust(64, b"\0") + b"\x55\xaa" + bytes(_MIB))
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


@pytest.mark.parametrize("record", [1, 2, 3])
def test_a_hybrid_mbr_is_called_so(disk: Path, record: int) -> None:
    _poke(disk, 446 + 12, struct.pack("<I", 2047))
    _poke(disk, 446 + 16 * record, struct.pack("<B3xB3xII", 0x80, 0xEF, 2048, 4096))
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
    _poke(disk, at % (16 * _MIB), value)
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
    path = _write(tmp_path / "disk", 512, (), backup={field: value})
    (problem,) = gpt.problems(path, gpt.read(path, 512))
    assert problem.startswith(says)


def test_entries_that_differ_from_the_backups_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "disk", 512, (_partition(1, _ESP),))
    other = _write(tmp_path / "other", 512, ())
    _poke(path, path.stat().st_size - 33 * 512, other.read_bytes()[-33 * 512 :])
    assert gpt.problems(path, gpt.read(path, 512)) == ("the entries of the backup differ from the primary's",)


def test_partitions_that_overlap_or_lie_outside_are_named(tmp_path: Path) -> None:
    partitions = (
        Partition(1, _ESP, uuid.uuid4(), 300, 400, ""),
        Partition(2, _ESP, uuid.uuid4(), 100, 300, ""),
        Partition(3, _ESP, uuid.uuid4(), 33, 50, ""),
        Partition(4, _ESP, uuid.uuid4(), 600, 599, ""),
        Partition(5, _ESP, uuid.uuid4(), 700, 2048 - 34 + 1, ""),
    )
    path = _write(tmp_path / "disk", 512, partitions)
    assert gpt.problems(path, gpt.read(path, 512)) == (
        "partition 3 (33..50) is not inside the usable range 34..2014",
        "partition 4 (600..599) is not inside the usable range 34..2014",
        "partition 5 (700..2015) is not inside the usable range 34..2014",
        "partitions 2 and 1 overlap at LBA 300",
    )


def test_a_usable_range_that_begins_inside_the_table_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "disk", 512, (), primary={"first_usable": 3}, backup={"first_usable": 3})
    assert gpt.problems(path, gpt.read(path, 512)) == ("the first usable LBA is 3, inside the primary table",)


def test_more_sectors_than_the_mbr_can_count(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.touch()
    _resize(path, 3 << 40)
    tools.run("sfdisk", "-q", path, input=_LAYOUT.encode())
    assert gpt.problems(path, gpt.read(path, 512)) == ()


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
    path = _write(tmp_path_factory.getbasetemp() / "layout", sector_size, partitions)
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
    path = _write(tmp_path_factory.getbasetemp() / "any", 512, partitions, fits(primary), fits(backup))
    for at, value in pokes.items():
        _poke(path, at, value)
    _resize(path, size)
    for sector_size in (512, 4096):
        with contextlib.suppress(HarnessError):
            gpt.problems(path, gpt.read(path, sector_size))
    with contextlib.suppress(HarnessError):
        disk_module.open_image(path)
    with contextlib.suppress(HarnessError):
        disk_module.open_image(path)


def _partition(number: int, type_guid: uuid.UUID) -> Partition:
    return Partition(number, type_guid, uuid.UUID(int=number), 100 * number, 100 * number + 9, "")


def _write(
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
        _poke(path, lba * sector_size, data)
    return path


def _poke(path: Path, at: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(value)


def _resize(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
