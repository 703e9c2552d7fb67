"""The reader of ext4 against file systems of mke2fs, whole and damaged, at an offset inside a larger image."""

import uuid
from pathlib import Path

import pytest

from harness import tools
from harness.errors import HarnessError, NodeFailure
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


@pytest.mark.parametrize("name", ["relative", '/quo"te', "/line\nrm /x", ""])
def test_a_name_that_debugfs_would_misread_is_refused(image: Path, name: str) -> None:
    with pytest.raises(HarnessError, match="is no path for debugfs"):
        ext4.read_file(image, _OFFSET, name)


def test_a_folder_is_listed(image: Path) -> None:
    assert ext4.list_folder(image, _OFFSET, "/") == ["a folder", "link", "lost+found", "way"]
    assert ext4.list_folder(image, _OFFSET, "/a folder") == ["a file"]
    for name in ("/none", "/a folder/a file"):
        with pytest.raises(NodeFailure, match="cannot be listed"):
            ext4.list_folder(image, _OFFSET, name)


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
        "debugfs", "-w", "-f", "-", f"{image}?offset={_OFFSET}", input="\n".join(commands).encode(), cwd=image.parent
    )
    assert not ext4.complaints(done.stderr)
