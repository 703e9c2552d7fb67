"""A data partition that somebody else made: of other blocks and features than kiOS's own mke2fs gives it."""

from pathlib import Path, PurePosixPath

import pytest

from harness import tools
from harness.storage import ext4, overlay
from harness.storage.overlay import File, Tree
from tests.storage.small_disks import MIB

_START, _SIZE = 1 * MIB, 24 * MIB
_FILES: Tree = {
    # What fits into an inode, and what does not.
    PurePosixPath("/etc/kios-e2e/token"): File(b"0123456789abcdef" * 2, 0o600),
    PurePosixPath("/etc/hosts"): b"127.0.0.1\tlocalhost\n",
    PurePosixPath("/etc/kubernetes/manifests/node.yaml"): b"kind: Pod\n" * 900,
}


@pytest.mark.parametrize(
    "options",
    [
        ["-b", "1024"],
        ["-b", "2048"],
        ["-b", "4096"],
        ["-O", "^has_journal"],
        ["-O", "inline_data"],
        ["-O", "metadata_csum_seed,orphan_file"],
        ["-O", "bigalloc", "-C", "16384"],
        ["-O", "^64bit,^metadata_csum"],
        ["-I", "128"],
        ["-O", "casefold"],
        ["-O", "meta_bg,^resize_inode"],
    ],
    ids=lambda options: " ".join(options),
)
def test_it_gives_its_files_and_takes_others(options: list[str], tmp_path: Path) -> None:
    base, tree = tmp_path / "base.img", tmp_path / "tree"
    (tree / "etc/kubernetes").mkdir(parents=True)
    (tree / "etc/hosts").write_text("own\n")
    (tree / "etc/kubernetes/config.yaml").write_text("maxPods: 7\n")
    base.write_bytes(bytes(_START + _SIZE))
    tools.run("mke2fs", "-q", "-t", "ext4", *options, "-d", tree, "-E", f"offset={_START}", base, f"{_SIZE // 1024}k")
    assert ext4.read_file(base, _START, "/etc/hosts") == b"own\n"
    overlay.create(base, tmp_path / "disk.qcow2", _START + _SIZE)
    overlay.inject(tmp_path / "disk.qcow2", base, _START, _SIZE, _FILES, tmp_path / "scratch")
    overlay.flatten(tmp_path / "disk.qcow2", tmp_path / "flat.img")
    ext4.check(tmp_path / "flat.img", _START)
    for path, entry in _FILES.items():
        wanted = entry.content if isinstance(entry, File) else entry
        assert ext4.read_file(tmp_path / "flat.img", _START, str(path)) == wanted
    assert ext4.read_file(tmp_path / "flat.img", _START, "/etc/kubernetes/config.yaml") == b"maxPods: 7\n"
