"""Overlays over a small partitioned disk: grown, flattened, moved to another base."""

import shutil
from pathlib import Path

import pytest

from harness import tools
from harness.errors import HarnessError, InputError
from harness.storage import overlay
from tests.storage.small_disks import MIB


def test_a_grown_overlay_reads_as_its_base_and_zeros(base: Path, tmp_path: Path) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", 48 * MIB)
    overlay.flatten(tmp_path / "disk.qcow2", tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes() == base.read_bytes() + bytes(16 * MIB)


def test_an_overlay_cannot_be_smaller_than_its_base(base: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"{16 * MIB} bytes cannot hold {base} of {32 * MIB} bytes"):
        overlay.create(base, tmp_path / "disk.qcow2", 16 * MIB)


def test_a_large_disk_flattens_to_a_sparse_file(base: Path, tmp_path: Path) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", 2 << 40)
    overlay.flatten(tmp_path / "disk.qcow2", tmp_path / "flat.raw")
    flat = (tmp_path / "flat.raw").stat()
    assert flat.st_size == 2 << 40
    assert flat.st_blocks * 512 < 32 * MIB


def test_an_overlay_on_others_comes_to_lie_on_their_base_alone(base: Path, tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower.qcow2", tmp_path / "upper.qcow2"
    overlay.create(base, lower, 48 * MIB)
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 20M 64k", "-c", "write -q -P 2 40M 64k", lower)
    overlay.stack(lower, upper)
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 3 20M 4k", upper)
    overlay.flatten(upper, tmp_path / "before.raw")
    overlay.rebase(upper, base)
    lower.unlink()
    overlay.flatten(upper, tmp_path / "after.raw")
    assert (tmp_path / "after.raw").read_bytes() == (tmp_path / "before.raw").read_bytes()


def test_an_overlay_from_elsewhere_is_given_its_base(base: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copyfile(base, tmp_path / "moved.raw"))
    overlay.create(base, tmp_path / "disk.qcow2", 48 * MIB)
    overlay.adopt(tmp_path / "disk.qcow2", moved, 48 * MIB)
    assert str(moved).encode() in (tmp_path / "disk.qcow2").read_bytes()[:4096]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "data_file={0}/secret"], "features that no node's disk has"),
        (["-o", "compat=0.10"], "no qcow2 file of version 3"),
        (["-o", "extended_l2=on,cluster_size=128k"], "features that no node's disk has"),
    ],
)
def test_an_overlay_that_names_other_files_is_not_opened(tmp_path: Path, options: list[str], words: str) -> None:
    disk = tmp_path / "disk.qcow2"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", *(word.format(tmp_path) for word in options), disk, "1M")
    with pytest.raises(InputError, match=words):
        overlay.adopt(disk, tmp_path / "base", MIB)


@pytest.mark.parametrize(("content", "words"), [(b"", "is no qcow2 file"), (bytes(200), "is no qcow2 file of version 3")])
def test_what_is_no_overlay_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "disk.qcow2").write_bytes(content)
    with pytest.raises(InputError, match=words):
        overlay.adopt(tmp_path / "disk.qcow2", tmp_path / "base", MIB)


def test_an_overlay_of_another_size_is_told(base: Path, tmp_path: Path) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", 48 * MIB)
    with pytest.raises(InputError, match="its machine has one of 1048576"):
        overlay.adopt(tmp_path / "disk.qcow2", base, MIB)


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(HarnessError, match="qemu-img is not installed: apt-get install qemu-utils"):
        tools.find("qemu-img")


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"did not end in 0\.1 s"):
        tools.run("sleep", "60", timeout=0.1)
