"""Overlays over a small partitioned disk: what is injected is there, whole, and nowhere else."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from harness import ext4, gpt, overlay, tools
from harness.errors import HarnessError

_MIB = 1 << 20
_START = 4 * _MIB
_SIZE = 24 * _MIB
_FILES = {
    PurePosixPath("/etc/kubernetes/manifests/a pod.yaml"): b"kind: Pod\n",
    PurePosixPath("/etc/kubernetes/pki/ca.crt"): bytes(range(256)) * 1200,
    PurePosixPath("/etc/old"): b"new\n",
    PurePosixPath("/empty"): b"",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 32 MiB with an ext4 data partition that has a file /etc/old of mode 0600; no test may write to it."""
    folder = tmp_path_factory.mktemp("base")
    path = folder / "base.raw"
    with path.open("wb") as file:
        file.truncate(32 * _MIB)
    layout = f"label: gpt\nstart={_START // 512}, size={_SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    tree = folder / "tree" / "etc"
    tree.mkdir(parents=True)
    (tree / "old").write_bytes(b"old" * 50000)
    (tree / "old").chmod(0o600)
    (tree / "kept").write_bytes(b"kept")
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree.parent, "-E", f"offset={_START}", path, f"{_SIZE // 1024}k")
    return path


def test_a_grown_overlay_reads_as_its_base_and_zeros(base: Path, tmp_path: Path) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", 48 * _MIB)
    overlay.flatten(tmp_path / "disk.qcow2", tmp_path / "flat.raw")
    assert (tmp_path / "flat.raw").read_bytes() == base.read_bytes() + bytes(16 * _MIB)


def test_an_overlay_cannot_be_smaller_than_its_base(base: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=f"{16 * _MIB} bytes cannot hold {base} of {32 * _MIB} bytes"):
        overlay.create(base, tmp_path / "disk.qcow2", 16 * _MIB)


def test_a_large_disk_flattens_to_a_sparse_file(base: Path, tmp_path: Path) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", 2 << 40)
    overlay.flatten(tmp_path / "disk.qcow2", tmp_path / "flat.raw")
    flat = (tmp_path / "flat.raw").stat()
    assert flat.st_size == 2 << 40
    assert flat.st_blocks * 512 < 32 * _MIB


def test_injected_files_are_on_the_disk(base: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(base.read_bytes()).digest()
    flat = _inject(base, tmp_path, _FILES)
    for path, content in _FILES.items():
        assert ext4.read_file(flat, _START, str(path)) == content
        stat = tools.run("debugfs", "-R", f'stat "{path}"', f"{flat}?offset={_START}").stdout
        assert b"Mode:  0644" in stat
        assert b"User:     0   Group:     0" in stat
    assert ext4.read_file(flat, _START, "/etc/kept") == b"kept"
    ext4.check(flat, _START)
    assert ext4.read_superblock(flat, _START).clean
    assert hashlib.sha256(base.read_bytes()).digest() == before
    assert not (tmp_path / "scratch").exists()


def test_only_the_partition_changes(base: Path, tmp_path: Path) -> None:
    old, new = base.read_bytes(), _inject(base, tmp_path, _FILES).read_bytes()
    assert old[:_START] == new[:_START]
    assert old[_START + _SIZE :] == new[_START + _SIZE :]
    # 300 kB of content, and what metadata a handful of files has.
    assert (tmp_path / "disk.qcow2").stat().st_size < 3 * _MIB


def test_nothing_to_inject_changes_no_content(base: Path, tmp_path: Path) -> None:
    flat = _inject(base, tmp_path, {})
    ext4.check(flat, _START)
    assert ext4.read_file(flat, _START, "/etc/kept") == b"kept"


def test_a_journal_that_awaits_its_replay_does_not_undo_the_injection(base: Path, tmp_path: Path) -> None:
    dirty = tmp_path / "dirty.raw"
    shutil.copyfile(base, dirty)
    block = ext4.read_superblock(dirty, _START).block_size
    (tmp_path / "block").write_bytes(b"j" * block)
    free = _SIZE // block - 100
    jobs = f"jo\njw -b {free} {tmp_path / 'block'}\njc\n".encode()
    tools.run("debugfs", "-w", "-f", "-", f"{dirty}?offset={_START}", input=jobs)
    assert ext4.read_superblock(dirty, _START).needs_recovery
    flat = _inject(dirty, tmp_path, _FILES)
    assert ext4.read_superblock(flat, _START).clean
    assert flat.read_bytes()[_START + free * block :][:block] == b"j" * block
    ext4.check(flat, _START)


@pytest.mark.parametrize("path", ["etc/x", "/", "/a/../b", "//a", '/a"b', "/a\nb"])
def test_a_bad_path_is_refused(base: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(HarnessError):
        _inject(base, tmp_path, {PurePosixPath(path): b""})
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("/etc", b"", "rm: file is a directory"),
        ("/etc/kept/x", b"", "write: "),
        ("/big", b"x" * (30 * _MIB), "Could not allocate block"),
    ],
)
def test_what_the_file_system_does_not_take_is_an_error(
    base: Path, tmp_path: Path, path: str, content: bytes, says: str
) -> None:
    with pytest.raises(HarnessError, match=says):
        _inject(base, tmp_path, {PurePosixPath(path): content})
    assert not (tmp_path / "scratch").exists()


def test_a_range_without_ext4_or_outside_the_base_is_an_error(base: Path, tmp_path: Path) -> None:
    for start, says in ((0, "on ext4 only"), (16 * _MIB, "ends before its partition")):
        with pytest.raises(HarnessError, match=says):
            overlay.inject(tmp_path / "disk.qcow2", base, start, _SIZE, _FILES, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_a_scratch_that_is_there_is_left_alone(base: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("mine")
    with pytest.raises(HarnessError, match="is there already"):
        _inject(base, tmp_path, _FILES)
    assert (tmp_path / "scratch").read_text() == "mine"


def test_a_missing_overlay_is_an_error_of_qemu_io(base: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="qemu-io failed"):
        overlay.inject(tmp_path / "none.qcow2", base, _START, _SIZE, _FILES, tmp_path / "scratch")


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(HarnessError, match="qemu-img is not installed: apt-get install qemu-utils"):
        tools.find("qemu-img")


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"did not end in 0\.1 s"):
        tools.run("sleep", "60", timeout=0.1)


def _inject(base: Path, folder: Path, files: Mapping[PurePosixPath, bytes]) -> Path:
    """Injects `files` into a new overlay and returns it as a raw image."""
    overlay.create(base, folder / "disk.qcow2", base.stat().st_size)
    overlay.inject(folder / "disk.qcow2", base, _START, _SIZE, files, folder / "scratch")
    overlay.flatten(folder / "disk.qcow2", folder / "flat.raw")
    return folder / "flat.raw"
