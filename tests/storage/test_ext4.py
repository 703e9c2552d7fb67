"""The reader of ext4 against file systems of mke2fs, whole and damaged, at an offset inside a larger image."""

import contextlib
import os
import random
import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import tools
from harness.errors import HarnessError, InputError, NodeFailure
from harness.storage import ext4

_MIB = 1 << 20
_OFFSET = 3 * _MIB
_UUID = uuid.UUID("12345678-1234-1234-1234-123456789abc")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of 16 MiB whose ext4 of 8 MiB starts at `_OFFSET`, with a few files."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(16 * _MIB)
    options = ["-q", "-t", "ext4", "-b", "1024", "-U", str(_UUID), "-L", "kios-data", "-E", f"offset={_OFFSET}"]
    tools.run("mke2fs", *options, path, "8M")
    (tmp_path / "source").write_bytes(b"debugfs: \xff\n\0" * 1000)
    _debugfs(
        path,
        'mkdir "/a folder"',
        'write source "/a folder/a file"',
        "symlink /link /nowhere",
        'symlink /way "/a folder"',
    )
    return path


def test_the_superblock_says_what_mke2fs_was_told(image: Path) -> None:
    superblock = ext4.read_superblock(image, _OFFSET)
    assert (superblock.block_size, superblock.blocks, superblock.uuid) == (1024, 8192, _UUID)
    assert (superblock.label, superblock.clean, superblock.needs_recovery) == ("kios-data", True, False)
    assert superblock.size == 8 * _MIB


def test_what_is_available_is_without_roots_reserve(image: Path) -> None:
    tools.run("tune2fs", "-r", "500", f"{image}?offset={_OFFSET}")
    superblock = ext4.read_superblock(image, _OFFSET)
    assert superblock.reserved_blocks == 500
    assert superblock.available == superblock.free - 500 * 1024


def test_no_file_system_is_a_failure(image: Path) -> None:
    for offset in (0, 16 * _MIB):
        with pytest.raises(NodeFailure, match=f"no ext4 file system at byte {offset}"):
            ext4.read_superblock(image, offset)
        with pytest.raises(NodeFailure, match="cannot be read"):
            ext4.read_file(image, offset, "/a")


def test_a_file_reads_as_it_was_written(image: Path) -> None:
    content = (image.parent / "source").read_bytes()
    assert ext4.read_file(image, _OFFSET, "/a folder/a file") == content
    assert ext4.read_file(image, _OFFSET, "/way/a file") == content


def test_what_is_no_file_is_a_failure(image: Path) -> None:
    with pytest.raises(NodeFailure, match=r"/a folder/none cannot be read .* File not found"):
        ext4.read_file(image, _OFFSET, "/a folder/none")
    for name in ("/a folder", "/link"):
        with pytest.raises(NodeFailure, match=f"{name} .* is not a regular file"):
            ext4.read_file(image, _OFFSET, name)


@pytest.mark.parametrize("name", ["relative", "/line\nrm /x", "/return\rx", "/nul\0", "", "/" + 4000 * "x", "/\ud800"])
def test_a_name_that_debugfs_would_misread_is_refused(image: Path, name: str) -> None:
    with pytest.raises(HarnessError, match="is no path for debugfs"):
        ext4.read_file(image, _OFFSET, name)


def test_a_folder_is_listed(image: Path) -> None:
    assert ext4.list_folder(image, _OFFSET, "/") == ["a folder", "link", "lost+found", "way"]
    assert ext4.list_folder(image, _OFFSET, "/a folder") == ["a file"]
    for name in ("/none", "/a folder/a file"):
        with pytest.raises(NodeFailure, match="cannot be listed"):
            ext4.list_folder(image, _OFFSET, name)


_ODD = [
    'quo"te',
    "tab\t",
    "no-break\u00a0space",
    os.fsdecode(b"bytes\xff\xfe"),
    " ",
    "back\\slash",
    "<12>",
    "#",
    "\x1b[31m",
    "-f",
]


@pytest.mark.parametrize("name", _ODD)
def test_an_odd_name_is_as_good_as_another(image: Path, name: str) -> None:
    _debugfs(image, f"write source {ext4.quote(f'/{name}')}")
    assert name in ext4.list_folder(image, _OFFSET, "/")
    assert ext4.read_file(image, _OFFSET, f"/{name}") == (image.parent / "source").read_bytes()


@pytest.mark.parametrize("names", [["two\nlines"], ["\n"], ["a\n/1/2", "b"], ["a", "z\n\n"]])
def test_a_line_feed_in_a_name_ends_no_row(tmp_path: Path, names: list[str]) -> None:
    names = [name.replace("/", "\u2044") for name in names]
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in names:
        (tree / name).touch()
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree, tmp_path / "image", "8M")
    assert ext4.list_folder(tmp_path / "image", 0, "/") == sorted([*names, "lost+found"])


def test_a_damaged_entry_is_a_failure(image: Path) -> None:
    content = image.read_bytes()
    at = content.index(b"a folder")
    with image.open("r+b") as file:
        file.seek(at)
        file.write(b"a/folder")
    tools.run("e2fsck", "-fn", f"{image}?offset={_OFFSET}", ok=range(16))
    with pytest.raises(NodeFailure, match="/ cannot be listed"):
        ext4.list_folder(image, _OFFSET, "/")


def test_a_sparse_terabyte_is_not_read(image: Path) -> None:
    _debugfs(image, 'sif "/a folder/a file" size 0x10000000000')
    with pytest.raises(HarnessError, match=r"a file in .* has 1099511627776 bytes: no more than 67108864 are read"):
        ext4.read_file(image, _OFFSET, "/a folder/a file")


def test_the_limit_is_the_callers(image: Path) -> None:
    content = (image.parent / "source").read_bytes()
    assert ext4.read_file(image, _OFFSET, "/a folder/a file", limit=len(content)) == content
    with pytest.raises(HarnessError, match="Ask with a larger limit"):
        ext4.read_file(image, _OFFSET, "/a folder/a file", limit=len(content) - 1)
    with pytest.raises(HarnessError, match="Ask with a larger limit"):
        ext4.list_folder(image, _OFFSET, "/", limit=100)


def test_an_image_with_a_question_mark_in_its_name_is_refused(image: Path) -> None:
    with pytest.raises(InputError, match=r"which\?\.raw has a '\?' in it"):
        ext4.check(image.rename(image.with_name("which?.raw")), _OFFSET)


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0x18, 7, r"is damaged, with blocks of 2\^17 bytes"),
        (0x18, 0xFFFFFFFF, r"is damaged, with blocks of 2\^4294967305 bytes"),
        (0x20, 0, "is damaged, with no blocks in a group"),
    ],
)
def test_a_damaged_superblock_is_a_failure(image: Path, at: int, value: int, says: str) -> None:
    with image.open("r+b") as file:
        file.seek(_OFFSET + 1024 + at)
        file.write(struct.pack("<I", value))
    with pytest.raises(NodeFailure, match=says):
        ext4.read_superblock(image, _OFFSET)


@pytest.mark.parametrize("offset", [1 << 62, 1 << 63, 1 << 72])
def test_an_offset_behind_every_file_is_a_failure(image: Path, offset: int) -> None:
    with pytest.raises(NodeFailure, match="no ext4 file system"):
        ext4.read_superblock(image, offset)


def test_a_large_file_system_is_counted_with_64_bits(image: Path) -> None:
    before = ext4.read_superblock(image, _OFFSET)
    with image.open("r+b") as file:
        for at, value in ((0x60, 0x2C2), (0x150, 2), (0x158, 1)):  # the features, blocks and free blocks, their upper halves
            file.seek(_OFFSET + 1024 + at)
            file.write(struct.pack("<I", value))
    after = ext4.read_superblock(image, _OFFSET)
    assert (after.blocks, after.free_blocks) == (before.blocks + (2 << 32), before.free_blocks + (1 << 32))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([1, 3, 6, 8, 24, 63, 84]), st.integers(0, 255)),
        st.one_of(st.just(0), st.just(0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
        max_size=8,
    )
)
def test_any_superblock_is_read_or_is_a_failure(image: Path, words: dict[int, int]) -> None:
    with image.open("r+b") as file:
        file.seek(_OFFSET + 1024)
        whole = bytearray(file.read(1024))
        for at, value in words.items():
            struct.pack_into("<I", whole, 4 * at, value)
        file.seek(_OFFSET + 1024)
        file.write(whole)
        file.flush()
        with contextlib.suppress(NodeFailure):
            superblock = ext4.read_superblock(image, _OFFSET)
            assert 1024 <= superblock.block_size <= 65536
            assert superblock.smallest_group > 0


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_system_is_read_or_refused_in_words(image: Path, seed: int) -> None:
    chance = random.Random(seed)
    with image.open("r+b") as file:
        for _ in range(chance.choice([1, 10, 100, 1000])):
            # Superblock, group descriptors, bitmaps, inode table and the first folders are there.
            file.seek(_OFFSET + chance.randrange(1024, 400_000))
            file.write(chance.randbytes(chance.choice([1, 4])))
    asked: list[Callable[[], object]] = [
        lambda: ext4.read_superblock(image, _OFFSET),
        lambda: ext4.check(image, _OFFSET),
        lambda: ext4.list_folder(image, _OFFSET, "/"),
        lambda: ext4.list_folder(image, _OFFSET, "/a folder"),
        lambda: ext4.read_file(image, _OFFSET, "/a folder/a file"),
        lambda: ext4.replay_journal(image, _OFFSET),
    ]
    for ask in asked:
        with contextlib.suppress(NodeFailure, HarnessError):
            ask()


def test_e2fsck_finds_damage_and_repairs_nothing(image: Path) -> None:
    ext4.check(image, _OFFSET)
    _debugfs(image, 'sif "/a folder/a file" links_count 7')
    before = image.read_bytes()
    with pytest.raises(NodeFailure, match=r"(?s)ends with 4 .* ref count is 7, should be 1"):
        ext4.check(image, _OFFSET)
    assert image.read_bytes() == before


def test_a_journal_is_replayed(image: Path) -> None:
    (image.parent / "block").write_bytes(b"j" * 1024)
    with image.open("r+b") as file:
        file.write(b"before" * 1000)
        file.seek(14 * _MIB)
        file.write(b"behind" * 1000)
    _debugfs(image, "jo", "jw -b 8000 block", "jc")
    dirty = ext4.read_superblock(image, _OFFSET)
    assert (dirty.needs_recovery, dirty.clean) == (True, False)
    before = image.read_bytes()
    ext4.replay_journal(image, _OFFSET)
    after = image.read_bytes()
    assert ext4.read_superblock(image, _OFFSET).clean
    assert after[_OFFSET + 8000 * 1024 :][:1024] == b"j" * 1024
    assert (after[:_OFFSET], after[11 * _MIB :]) == (before[:_OFFSET], before[11 * _MIB :])
    ext4.check(image, _OFFSET)
    assert ext4.read_file(image, _OFFSET, "/a folder/a file") == (image.parent / "source").read_bytes()


def _debugfs(image: Path, *commands: str) -> None:
    done = tools.run(
        "debugfs", "-w", "-f", "-", f"{image}?offset={_OFFSET}", input=os.fsencode("\n".join(commands)), cwd=image.parent
    )
    assert not ext4.complaints(done.stderr)
