"""A disk that is full is named, and nobody else is blamed for it."""

import errno
from pathlib import Path

import pytest

from harness import space
from harness.errors import HarnessError


def fill(folder: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (folder / "filler").write_bytes(bytes(5 << 20))


def test_what_wants_more_than_is_free_is_refused(small_disk: Path) -> None:
    space.check(small_disk, 3 << 20, "a node")
    with pytest.raises(HarnessError, match=f"a node takes 5 MiB in {small_disk}, and 4 MiB are free there: make room"):
        space.check(small_disk, 5 << 20, "a node")


def test_a_full_disk_is_full(small_disk: Path) -> None:
    assert not space.is_full(small_disk)
    fill(small_disk)
    assert space.is_full(small_disk)
    assert not space.is_full(small_disk / "missing")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_that_finds_no_space_names_the_folder(tmp_path: Path, number: int) -> None:
    with pytest.raises(HarnessError, match=f"^No space is left in {tmp_path}"), space.named(tmp_path):
        raise OSError(number, "in some language")


def test_so_does_a_tool(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"^No space is left in {tmp_path}"), space.named(tmp_path):
        raise HarnessError("qemu-io failed with status 1: write failed: No space left on device")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), space.named(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(HarnessError, match="no ext4"), space.named(tmp_path):
        raise HarnessError("no ext4")
