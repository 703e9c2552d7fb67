"""A disk of a user's own beside the three files of generation B: its partition, and no other, is a node's."""

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from harness import tools
from harness.errors import DamagedImageError, InputError
from harness.lab import brought as brought_image
from harness.lab import builder, data_disk
from harness.lab.data_disk import Partition
from harness.lab.wanted import Wanted
from harness.storage import cpio, gpt
from tests.lab.small_images import ESP_START, MIB, SIZE, START, digest, make_disk, make_modules
from tests.storage import small_disks
from tests.storage.small_disks import partition

LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    """What kiOS's build leaves of generation B."""
    (tmp_path / "Bootx64.efi").write_bytes(b"MZ" + bytes(100))
    (tmp_path / "initrd").write_bytes(cpio.archive({}))
    modules = make_modules(tmp_path / "modules")
    (modules / "6.1.0/modules.dep").write_text("kernel/nvme.ko:\n")
    return Wanted(efi=tmp_path / "Bootx64.efi", initrd=tmp_path / "initrd", modules=modules, image=tmp_path / "own.img")


@pytest.fixture
def asked(made: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `python -m images` was asked for, which hands out a disk that is there."""
    words: list[str] = []

    def ask(*arguments: str | Path) -> str:
        words[:] = map(str, arguments)
        return str(made)

    monkeypatch.setattr(builder, "ask", ask)
    return words


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


@pytest.mark.parametrize("type_guid", [gpt.DATA_PARTITION, LINUX], ids=["kiOS's", "another's"])
def test_its_partition_is_the_one_beside_its_esp(type_guid: uuid.UUID, tmp_path: Path) -> None:
    assert data_disk.partition_of(make_disk(tmp_path / "own.img", type_guid)) == Partition(START, SIZE, 512)


def test_a_disk_without_a_partition_or_with_more_than_one_is_refused(tmp_path: Path) -> None:
    own = make_disk(tmp_path / "own.img")
    tools.run("sfdisk", "-q", "--part-type", own, "2", str(LINUX))
    with pytest.raises(InputError, match=r"own\.img has 2 partitions beside its EFI System Partition: one is taken, as p2"):
        data_disk.partition_of(own)
    tools.run("sfdisk", "-q", "--delete", own)
    with pytest.raises(InputError, match=r"own\.img has 0 partitions beside"):
        data_disk.partition_of(own)
    own.write_bytes(bytes(ESP_START))
    with pytest.raises(InputError, match=r"own\.img is no disk that a node could have: "):
        data_disk.partition_of(own)


@pytest.mark.parametrize(
    ("first", "last"),
    [(300, 200), (0, 2**64 - 1), (200, 99_999_999), (105, 300)],
    ids=["ends first", "huge", "beyond", "overlaps"],
)
def test_a_disk_whose_partition_cannot_be_is_damaged(tmp_path: Path, first: int, last: int) -> None:
    theirs = replace(partition(2, LINUX), first=first, last=last)
    own = small_disks.write(tmp_path / "own.img", 512, (partition(1, gpt.ESP), theirs))
    with pytest.raises(DamagedImageError, match=r"own\.img is damaged: partition"):
        data_disk.partition_of(own)


def test_a_truncated_disk_is_damaged(tmp_path: Path) -> None:
    own = small_disks.write(tmp_path / "own.img", 512, tuple(map(partition, (1, 2), (gpt.ESP, LINUX))))
    small_disks.resize(own, 205 * 512)
    with pytest.raises(
        DamagedImageError, match=r"own\.img is damaged: it is truncated: its table is of a disk of 2048 sectors"
    ):
        data_disk.partition_of(own)


@pytest.mark.filterwarnings("error:the EFI binary")  # which is looked into when a node is made, and not before
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "qcow2"])
def test_a_nodes_disk_is_made_with_it(wanted: Wanted, asked: list[str], tmp_path: Path, packed: bool) -> None:
    raw = make_disk(tmp_path / ("raw.img" if packed else "own.img"), LINUX)
    if packed:
        tools.run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, tmp_path / "own.img")
    wanted.check()
    found = wanted.bring(tmp_path / "cache")
    assert found
    assert found.initramfs
    assert found.digests["own.img"] == digest(tmp_path / "own.img")
    assert (value(asked, "--data-start"), value(asked, "--data-size")) == (str(START), str(SIZE))
    assert digest(Path(value(asked, "--data"))) == digest(raw)
    assert value(asked, "--sector-size") == "512"


def test_a_nodes_disk_has_the_blocks_of_its_users(wanted: Wanted, asked: list[str], tmp_path: Path) -> None:
    own = small_disks.write(tmp_path / "own.img", 4096, tuple(map(partition, (1, 2), (gpt.ESP, LINUX))))
    assert data_disk.partition_of(own) == Partition(200 * 4096, 10 * 4096, 4096)
    wanted.bring(tmp_path / "cache")
    assert (value(asked, "--data-start"), value(asked, "--sector-size")) == (str(200 * 4096), "4096")


def test_a_disk_of_other_blocks_than_are_wanted_is_refused(wanted: Wanted, asked: list[str], tmp_path: Path) -> None:
    make_disk(tmp_path / "own.img")
    with pytest.raises(InputError, match=r"own\.img is made for blocks of 512 bytes, not 4096"):
        wanted.of_large_blocks().bring(tmp_path / "cache")
    assert not asked


def test_what_is_no_disk_is_refused_before_anything_is_made(wanted: Wanted, tmp_path: Path) -> None:
    (tmp_path / "own.img").write_bytes(bytes(MIB))
    with pytest.raises(InputError, match=r"own\.img is no disk that a node could have"):
        wanted.check()
    with pytest.raises(InputError, match=r"own\.img"):
        brought_image.check_data_disk(tmp_path / "own.img")


def test_generation_a_has_one_disk(wanted: Wanted, tmp_path: Path) -> None:
    make_disk(tmp_path / "own.img")
    with pytest.raises(InputError, match="give either"):
        Wanted(efi=wanted.efi, modules=wanted.modules, image=wanted.image).check()
