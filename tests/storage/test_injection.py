"""Injection into a small partitioned disk: what is injected is there, whole, and nowhere else."""

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness import tools
from harness.errors import HarnessError, InputError, NodeFailure
from harness.storage import ext4, overlay
from tests.storage.small_disks import MIB, SIZE, START

_FILES = {
    PurePosixPath("/etc/kubernetes/manifests/a pod.yaml"): b"kind: Pod\n",
    PurePosixPath("/etc/kubernetes/pki/ca.crt"): bytes(range(256)) * 1200,
    PurePosixPath("/etc/old"): b"new\n",
    PurePosixPath("/empty"): b"",
}


def test_injected_files_are_on_the_disk(base: Path, tmp_path: Path) -> None:
    before = hashlib.sha256(base.read_bytes()).digest()
    flat = _inject(base, tmp_path, _FILES)
    for path, content in _FILES.items():
        assert ext4.read_file(flat, START, str(path)) == content
        stat = tools.run("debugfs", "-R", f'stat "{path}"', f"{flat}?offset={START}").stdout
        assert b"Mode:  0644" in stat
        assert b"User:     0   Group:     0" in stat
    assert ext4.read_file(flat, START, "/etc/kept") == b"kept"
    ext4.check(flat, START)
    assert ext4.read_superblock(flat, START).clean
    assert hashlib.sha256(base.read_bytes()).digest() == before
    assert not (tmp_path / "scratch").exists()


def test_only_the_partition_changes(base: Path, tmp_path: Path) -> None:
    old, new = base.read_bytes(), _inject(base, tmp_path, _FILES).read_bytes()
    assert old[:START] == new[:START]
    assert old[START + SIZE :] == new[START + SIZE :]
    # 300 kB of content, and what metadata a handful of files has.
    assert (tmp_path / "disk.qcow2").stat().st_size < 3 * MIB


def test_nothing_to_inject_changes_no_content(base: Path, tmp_path: Path) -> None:
    flat = _inject(base, tmp_path, {})
    ext4.check(flat, START)
    assert ext4.read_file(flat, START, "/etc/kept") == b"kept"


def test_a_journal_that_awaits_its_replay_does_not_undo_the_injection(base: Path, tmp_path: Path) -> None:
    dirty = tmp_path / "dirty.raw"
    shutil.copyfile(base, dirty)
    block = ext4.read_superblock(dirty, START).block_size
    (tmp_path / "block").write_bytes(b"j" * block)
    free = SIZE // block - 100
    jobs = f"jo\njw -b {free} {tmp_path / 'block'}\njc\n".encode()
    tools.run("debugfs", "-w", "-f", "-", f"{dirty}?offset={START}", input=jobs)
    assert ext4.read_superblock(dirty, START).needs_recovery
    flat = _inject(dirty, tmp_path, _FILES)
    assert ext4.read_superblock(flat, START).clean
    assert flat.read_bytes()[START + free * block :][:block] == b"j" * block
    ext4.check(flat, START)


def test_names_of_any_bytes_are_on_the_disk(base: Path, tmp_path: Path) -> None:
    odd = [
        'quo"te',
        "tab\there",
        "no-break\u00a0space",
        os.fsdecode(b"bytes\xff\xfe"),
        " ",
        "back\\slash",
        "<12>",
        "'",
        '"',
        "#",
    ]
    nodes: overlay.Tree = {
        **{PurePosixPath("/odd") / name / name: os.fsencode(name) for name in odd},
        **{PurePosixPath("/links") / name: overlay.Link(name) for name in odd},
        PurePosixPath("/links/long"): overlay.Link(30 * 'quo"te'),
    }
    flat = _inject(base, tmp_path, nodes)
    ext4.check(flat, START)
    assert ext4.list_folder(flat, START, "/odd") == sorted(odd)
    for name in odd:
        assert ext4.read_file(flat, START, f"/odd/{name}/{name}") == os.fsencode(name)


@pytest.mark.parametrize("path", ["etc/x", "/", "/a/../b", "//a", "/a\nb", "/a\rb", "/a\ud800"])
def test_a_bad_path_is_refused(base: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(HarnessError):
        _inject(base, tmp_path, {PurePosixPath(path): b""})
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("/etc", b"", "/etc cannot be injected: it is a folder"),
        ("/etc/kept/x", b"", "/etc/kept cannot be a folder: it is a regular"),
        ("/big", b"x" * (30 * MIB), r"has 20 MiB free and 30 MiB are wanted: put less on it"),
    ],
)
def test_what_the_file_system_does_not_take_is_an_error(
    base: Path, tmp_path: Path, path: str, content: bytes, says: str
) -> None:
    with pytest.raises(HarnessError, match=says):
        _inject(base, tmp_path, {PurePosixPath(path): content})
    assert not (tmp_path / "scratch").exists()


def test_files_cannot_lie_under_a_file_or_a_link(base: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked.raw"
    shutil.copyfile(base, linked)
    tools.run("debugfs", "-w", "-R", "symlink /way /etc", f"{linked}?offset={START}")
    with pytest.raises(HarnessError, match="/way cannot be a folder: it is a symlink"):
        _inject(linked, tmp_path, {PurePosixPath("/way/new"): b""})
    with pytest.raises(HarnessError, match="/a cannot be injected as it is: other files are to lie under it"):
        _inject(base, tmp_path, {PurePosixPath("/a"): b"", PurePosixPath("/a/b"): b""})


_TREE: overlay.Tree = {
    PurePosixPath("/store/a file"): overlay.File(bytes(9000) + b"end" + bytes(9000), 0o4755),
    PurePosixPath("/store/secret"): overlay.File(b"s", 0o600),
    PurePosixPath("/store/empty"): overlay.Folder(0o1777),
    PurePosixPath("/store/own/kept"): overlay.File(b""),
    PurePosixPath("/store/own"): overlay.Folder(0o700),
    PurePosixPath("/store/["): overlay.Link("busy box"),
    PurePosixPath("/store/l/X"): overlay.Link("../é/diff"),
    PurePosixPath("/store/short"): overlay.Link("s" * 59),
    PurePosixPath("/store/long"): overlay.Link("l" * 60),
    PurePosixPath("/store/longer"): overlay.Link("/" + "m" * 800),
    PurePosixPath("/etc/old"): overlay.Link("kept"),
    PurePosixPath("/etc"): overlay.Folder(0o750),
}


def test_files_folders_and_links_are_on_the_disk_with_their_modes(base: Path, tmp_path: Path) -> None:
    flat = _inject(base, tmp_path, _TREE)
    ext4.check(flat, START)
    for path, entry in _TREE.items():
        kind, mode, target = _found(flat, path)
        match entry:
            case overlay.File():
                assert (kind, mode) == ("regular", entry.mode)
                assert ext4.read_file(flat, START, str(path)) == entry.content
            case overlay.Folder():
                assert (kind, mode) == ("directory", entry.mode)
            case overlay.Link():
                assert (kind, target) == ("symlink", entry.target)
    assert ext4.list_folder(flat, START, "/store/own") == ["kept"]
    assert ext4.list_folder(flat, START, "/etc") == ["kept", "old"]
    assert ext4.list_folder(flat, START, "/store/empty") == []


def test_a_folder_that_is_there_only_gets_its_mode(base: Path, tmp_path: Path) -> None:
    flat = _inject(base, tmp_path, {PurePosixPath("/etc"): overlay.Folder(0o711)})
    # mkdir of debugfs 1.47 would leave an inode behind that belongs to no folder.
    ext4.check(flat, START)
    assert _found(flat, PurePosixPath("/etc"))[:2] == ("directory", 0o711)
    assert ext4.list_folder(flat, START, "/etc") == ["kept", "old"]


def test_a_store_of_a_container_is_put_on_the_disk_in_no_time(base: Path, tmp_path: Path) -> None:
    links: overlay.Tree = {PurePosixPath(f"/bin/applet {n}"): overlay.Link("busybox") for n in range(300)}
    files: overlay.Tree = {PurePosixPath(f"/lib/{n}"): overlay.File(bytes([n]) * 50000, 0o755) for n in range(40)}
    start = time.monotonic()
    flat = _inject(base, tmp_path, {**links, **files})
    assert time.monotonic() - start < 10  # 0.5 s where nothing else runs
    ext4.check(flat, START)
    assert len(ext4.list_folder(flat, START, "/bin")) == len(links)


@pytest.mark.parametrize(
    ("path", "entry", "says"),
    [
        ("/etc/kept", overlay.Folder(), "/etc/kept cannot be a folder: it is a regular"),
        ("/etc", overlay.Link("kept"), "/etc cannot be injected: it is a folder"),
        ("/link", overlay.Link(""), "is no path for debugfs: wanted are 1 to 4000 bytes"),
        ("/link", overlay.Link("a\n/etc"), "is no path for debugfs"),
        ("/link", overlay.Link("x" * 3000), "debugfs could not inject"),
    ],
    ids=["folder over a file", "link over a folder", "link to nothing", "link with a line feed", "link longer than a block"],
)
def test_a_folder_or_link_that_cannot_be_made_is_an_error(
    base: Path, tmp_path: Path, path: str, entry: overlay.Entry, says: str
) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", base.stat().st_size)
    before = (tmp_path / "disk.qcow2").read_bytes()
    with pytest.raises(HarnessError, match=says):
        overlay.inject(tmp_path / "disk.qcow2", base, START, SIZE, {PurePosixPath(path): entry}, tmp_path / "scratch")
    assert (tmp_path / "disk.qcow2").read_bytes() == before


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (overlay.File(b""), r"room for \d+ files and 8001 are wanted"),
        (overlay.Link("x" * 60), r"has 20 MiB free and \d+ MiB are wanted"),
        (overlay.Folder(), r"has 20 MiB free and \d+ MiB are wanted"),
    ],
    ids=["inodes", "links with a block", "folders"],
)
def test_too_many_files_are_refused_before_one_is_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: overlay.Entry, says: str
) -> None:
    overlay.create(base, tmp_path / "disk.qcow2", base.stat().st_size)
    ran: list[str] = []
    monkeypatch.setattr(tools, "run", lambda name, *args, **options: ran.append(name))
    count = 8000 if isinstance(entry, overlay.File) else 6000 * 4096 // ext4.read_superblock(base, START).block_size
    files: overlay.Tree = {PurePosixPath(f"/many/{n}"): entry for n in range(count)}
    with pytest.raises(InputError, match=says):
        overlay.inject(tmp_path / "disk.qcow2", base, START, SIZE, files, tmp_path / "scratch")
    assert ran == []


def test_a_partition_on_which_no_node_could_write_is_the_images_fault(base: Path, tmp_path: Path) -> None:
    full = tmp_path / "full.raw"
    shutil.copyfile(base, full)
    superblock = ext4.read_superblock(base, START)
    (tmp_path / "fill").write_bytes(b"x" * (superblock.free - 8 * superblock.block_size))
    tools.run("debugfs", "-w", "-R", f"write {tmp_path / 'fill'} /fill", f"{full}?offset={START}")
    with pytest.raises(NodeFailure, match=r"the image's data partition is full: \d+ KiB are free"):
        _inject(full, tmp_path, {PurePosixPath("/big"): b"x" * 100_000})


def test_a_partition_without_inodes_is_the_images_fault(base: Path) -> None:
    superblock = replace(ext4.read_superblock(base, START), free_inodes=3)
    with pytest.raises(NodeFailure, match="the image's data partition has no inodes left: 3 are free"):
        superblock.check_room(1, 14)
    replace(superblock, free_inodes=14).check_room(1, 14)


def test_what_just_fits_is_taken(base: Path, tmp_path: Path) -> None:
    superblock = ext4.read_superblock(base, START)
    # One block is a file's own, for what of its extents has no place in the inode.
    content = b"x" * (superblock.free - 2 * superblock.block_size)
    flat = _inject(base, tmp_path, {PurePosixPath("/big"): overlay.File(content)})
    assert ext4.read_superblock(flat, START).free < 3 * superblock.block_size
    ext4.check(flat, START)


@pytest.mark.parametrize("lie", [b"Mode:  0600", b"User:     7", b'link dest: "other"'], ids=["mode", "owner", "target"])
def test_what_reads_back_otherwise_is_an_error(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: bytes) -> None:
    truth = {b"Mode:  0600": b"Mode:  0777", b"User:     7": b"User:     0"}.get(lie, b'link dest: "true"')
    really_run = tools.run

    def run(name: str, *args: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
        done = really_run(name, *args, **options)
        if "-w" in args:
            assert truth in done.stdout
            done.stdout = done.stdout.replace(truth, lie)
        return done

    monkeypatch.setattr(tools, "run", run)
    with pytest.raises(HarnessError, match="/link reads back from the file system"):
        _inject(base, tmp_path, {PurePosixPath("/link"): overlay.Link("true")})


def test_a_range_without_ext4_or_outside_the_base_is_an_error(base: Path, tmp_path: Path) -> None:
    for start, says in ((0, "on ext4 only"), (16 * MIB, "ends before its partition")):
        with pytest.raises(HarnessError, match=says):
            overlay.inject(tmp_path / "disk.qcow2", base, start, SIZE, _FILES, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_a_scratch_that_is_there_is_left_alone(base: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("mine")
    with pytest.raises(HarnessError, match="is there already"):
        _inject(base, tmp_path, _FILES)
    assert (tmp_path / "scratch").read_text() == "mine"


def test_a_missing_overlay_is_an_error_of_qemu_io(base: Path, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="qemu-io failed"):
        overlay.inject(tmp_path / "none.qcow2", base, START, SIZE, _FILES, tmp_path / "scratch")


def test_a_full_disk_is_named_whoever_finds_it(base: Path, small_disk: Path) -> None:
    full = f"^No space is left in {small_disk}: make room"
    disk = small_disk / "disk.qcow2"
    overlay.create(base, disk, 48 * MIB)
    large = {PurePosixPath("/large"): os.urandom(3 * MIB)}
    with pytest.raises(HarnessError, match=full):
        overlay.inject(disk, base, START, SIZE, large, small_disk / "scratch")
    assert sorted(file.name for file in small_disk.iterdir()) == ["disk.qcow2"]
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(5 * MIB))
    with pytest.raises(HarnessError, match=full):
        overlay.create(base, small_disk / "another.qcow2", 48 * MIB)
    with pytest.raises(HarnessError, match=full):
        overlay.stack(disk, small_disk / "another.qcow2")
    with pytest.raises(HarnessError, match=full):
        overlay.flatten(disk, small_disk / "flat.raw")


def _found(flat: Path, path: PurePosixPath) -> tuple[str, int, str]:
    """What debugfs says of a file: its type, its mode, and where it leads if it is a link."""
    stat, content = (
        tools.run("debugfs", "-R", f'{command} "{path}"', f"{flat}?offset={START}").stdout for command in ("stat", "cat")
    )
    words = stat.decode().split()
    fast = stat.decode().partition('Fast link dest: "')[2].partition('"\n')[0]
    assert words[words.index("User:") + 1 : words.index("User:") + 4] == ["0", "Group:", "0"]
    return words[words.index("Type:") + 1], int(words[words.index("Mode:") + 1], 8), fast or content.decode(errors="replace")


def _inject(base: Path, folder: Path, files: overlay.Tree) -> Path:
    """Injects `files` into a new overlay and returns it as a raw image."""
    overlay.create(base, folder / "disk.qcow2", base.stat().st_size)
    overlay.inject(folder / "disk.qcow2", base, START, SIZE, files, folder / "scratch")
    overlay.flatten(folder / "disk.qcow2", folder / "flat.raw")
    return folder / "flat.raw"
