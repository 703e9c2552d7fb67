"""What the image builder writes, read back by others: cpio, tar, mtools, and the harness's own readers."""

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import tools
from harness.storage import ext4, gpt
from images import command, cpio, disk, oci, storage
from images.errors import BuildError

_MIB = 1 << 20
_NAME = "docker.io/emilyls/tinycat:v1-alpha2"
_DISK_TOOLS = ("mke2fs", "mkfs.vfat", "mcopy", "mmd", "fakeroot", "debugfs")


def make_tree(root: Path) -> Path:
    """A small root file system: a program, a file that only its owner reads, links to here and to nowhere, folders."""
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    for name, content, mode in (("bin/program", b"\x7fELF", 0o755), ("secret", b"s" * 4095, 0o600), ("nothing", b"", 0o644)):
        (root / name).write_bytes(content)
        (root / name).chmod(mode)
    (root / "bin/sh").symlink_to("program")
    (root / "broken").symlink_to("/nowhere")
    (root / "folder").symlink_to("bin")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


def lasting_change(change: Callable[[Path], object], tree: Path, output: Callable[[Path], bytes]) -> bool:
    before = output(tree)
    change(tree)
    return output(tree) != before


_CHANGES = [
    lambda tree: (tree / "secret").write_bytes(b"t" * 4095),
    lambda tree: (tree / "secret").rename(tree / "secrets"),
    lambda tree: (tree / "secret").chmod(0o640),
    lambda tree: (tree / "empty").rmdir(),
    lambda tree: ((tree / "broken").unlink(), (tree / "broken").symlink_to("/elsewhere")),
]


def initramfs_of(tree: Path) -> bytes:
    archive = tree.with_name("initramfs.cpio")
    cpio.write(tree, archive)
    return archive.read_bytes()


def archive_of(tree: Path) -> bytes:
    archive = tree.with_name("archive.tar")
    oci.write_archive(oci.build(oci.Image(_NAME, ["/bin/program"]), tree), archive)
    return archive.read_bytes()


@pytest.mark.parametrize("output", [initramfs_of, archive_of])
def test_equal_trees_give_equal_bytes(tmp_path: Path, output: Callable[[Path], bytes]) -> None:
    one, two = make_tree(tmp_path / "a/tree"), make_tree(tmp_path / "b/tree")
    os.utime(two / "secret", (0, 0))
    assert output(one) == output(two)


@pytest.mark.parametrize("output", [initramfs_of, archive_of])
@pytest.mark.parametrize("change", _CHANGES, ids=["content", "name", "mode", "folder", "link"])
def test_whatever_changes_in_a_tree_shows(
    tree: Path, output: Callable[[Path], bytes], change: Callable[[Path], object]
) -> None:
    assert lasting_change(change, tree, output)


def cpio_lists(archive: bytes, *options: str) -> list[str]:
    done = subprocess.run(["cpio", "-t", "--quiet", *options], input=archive, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_names_of_one_file_stay_hard_links_in_the_initramfs(tmp_path: Path) -> None:
    tree, unpacked = tmp_path / "tree", tmp_path / "unpacked"
    tree.mkdir()
    unpacked.mkdir()
    (tree / "modprobe").write_bytes(b"busybox" * 1000)
    (tree / "mount").hardlink_to(tree / "modprobe")
    cpio.write(tree, tmp_path / "initramfs.cpio")
    assert (tmp_path / "initramfs.cpio").read_bytes().count(b"busybox" * 1000) == 1
    archive = (tmp_path / "initramfs.cpio").read_bytes()
    subprocess.run(["cpio", "-i", "--quiet", "mod*", "mount"], input=archive, cwd=unpacked, check=True)
    assert (unpacked / "mount").samefile(unpacked / "modprobe")
    assert (unpacked / "mount").read_bytes() == b"busybox" * 1000


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_the_initramfs(tree: Path) -> None:
    archive = initramfs_of(tree)
    names = cpio_lists(archive)
    assert names[:2] == ["dev", "dev/console"]
    assert names[2:] == sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    rows = {row.split()[-1]: row.split() for row in cpio_lists(archive, "-v", "-n") if "->" not in row}
    assert {tuple(row[2:4]) for row in rows.values()} == {("0", "0")}
    assert [rows[name][0] for name in ("dev/console", "bin", "bin/program", "secret")] == [
        "crw-------",
        "drwxr-xr-x",
        "-rwxr-xr-x",
        "-rw-------",
    ]
    assert rows["dev/console"][4:6] == ["5,", "1"]
    assert any(row.endswith("bin/sh -> program") for row in cpio_lists(archive, "-v"))


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_extracts_the_same_contents(tree: Path, tmp_path: Path) -> None:
    archive, target = initramfs_of(tree), tmp_path / "extracted"
    target.mkdir()
    options = ["--quiet", "--no-preserve-owner", "bin*", "secret", "nothing", "broken"]
    subprocess.run(["cpio", "-i", "-d", *options], input=archive, cwd=target, check=True)
    assert (target / "bin/program").read_bytes() == b"\x7fELF"
    assert (target / "secret").read_bytes() == b"s" * 4095
    assert (target / "nothing").read_bytes() == b""
    assert (target / "broken").readlink() == Path("/nowhere")


def read_archive(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = [(entry.name, tar.extractfile(entry)) for entry in tar]
    return {name: file.read() for name, file in files if file is not None}


def resolve(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    blob = files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert descriptor["digest"] == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert descriptor["size"] == len(blob)
    return blob


def test_an_archive_is_a_valid_oci_layout(tree: Path, tmp_path: Path) -> None:
    image = oci.Image(_NAME, ["/bin/program"], command=["-v"], environment=["A=b"])
    oci.write_archive(oci.build(image, tree), tmp_path / "image.tar")
    files = read_archive((tmp_path / "image.tar").read_bytes())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (descriptor,) = json.loads(files["index.json"])["manifests"]
    assert descriptor["annotations"]["org.opencontainers.image.ref.name"] == _NAME
    assert descriptor["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    manifest = json.loads(resolve(files, descriptor))
    config = json.loads(resolve(files, manifest["config"]))
    (layer,) = manifest["layers"]
    resolve(files, layer)
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, descriptor["mediaType"])
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
    assert config["config"] == {"Entrypoint": ["/bin/program"], "Cmd": ["-v"], "Env": ["A=b"]}
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert len(files) == 5


def test_a_layer_is_the_tree_and_all_of_it_roots_of_1970(tree: Path) -> None:
    built = oci.build(oci.Image(_NAME, ["/bin/program"]), tree)
    with tarfile.open(fileobj=io.BytesIO(built.layer.data)) as tar:
        entries = {entry.name: entry for entry in tar}
        program = tar.extractfile("bin/program")
        assert program is not None
        assert program.read() == b"\x7fELF"
    assert sorted(entries) == sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries.values()} == {(0, 0, "", "", 0)}
    assert (entries["bin/program"].mode, entries["secret"].mode) == (0o755, 0o600)
    assert entries["bin"].isdir()
    assert (entries["broken"].issym(), entries["broken"].linkname) == (True, "/nowhere")
    assert "Cmd" not in json.loads(built.config.data)["config"]


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, list[oci.Built]]:
    """A store with two images, and these."""
    trees = [make_tree(tmp_path / "one"), make_tree(tmp_path / "two")]
    (trees[1] / "more").touch()
    images = [oci.build(oci.Image(f"docker.io/emilyls/{tree.name}:v1", ["/bin/program"]), tree) for tree in trees]
    store = tmp_path / "store"
    storage.preload(images, store)
    return store, images


def test_every_layer_of_a_store_is_a_folder_that_its_short_link_leads_to(stored: tuple[Path, list[oci.Built]]) -> None:
    store, images = stored
    layers = json.loads((store / "overlay-layers/layers.json").read_text())
    assert [layer["diff-digest"] for layer in layers] == [built.layer.digest for built in images]
    assert [layer["diff-size"] for layer in layers] == [len(built.layer.data) for built in images]
    for layer, built in zip(layers, images, strict=True):
        folder = store / "overlay" / layer["id"]
        link = (folder / "link").read_text()
        assert (len(link), link) == (26, link.upper())
        assert (store / "overlay/l" / link).resolve() == folder / "diff"
        assert not (store / "overlay/l" / link).readlink().is_absolute()
        assert (folder / "work").is_dir()
        names = [str(path.relative_to(folder / "diff")) for path in sorted((folder / "diff").rglob("*"))]
        assert names == [str(path.relative_to(built.root)) for path in sorted(built.root.rglob("*"))]
        assert (folder / "diff/broken").readlink() == Path("/nowhere")
    assert len(list((store / "overlay/l").iterdir())) == len(images)


def test_every_image_of_a_store_names_its_layer_and_its_data(stored: tuple[Path, list[oci.Built]]) -> None:
    store, images = stored
    layers = {layer["id"] for layer in json.loads((store / "overlay-layers/layers.json").read_text())}
    records = json.loads((store / "overlay-images/images.json").read_text())
    assert [record["names"] for record in records] == [["docker.io/emilyls/one:v1"], ["docker.io/emilyls/two:v1"]]
    assert {record["layer"] for record in records} == layers
    for record, built in zip(records, images, strict=True):
        assert record["digest"] == built.manifest.digest
        assert built.config.digest == f"sha256:{record['id']}"
        # As containers/storage names them: an id's bytes are plain, whatever has other characters is "=" and base64.
        folder = store / "overlay-images" / record["id"]
        assert (folder / "manifest").read_bytes() == built.manifest.data
        contents = {hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        assert {f"sha256:{content}" for content in contents} == set(record["big-data-digests"].values())
        assert set(record["big-data-names"]) == {"manifest", built.config.digest, f"manifest-{built.manifest.digest}"}
        assert len(list(folder.iterdir())) == 3
        for file in folder.iterdir():
            assert file.name == "manifest" or file.name.startswith("=")


def test_a_store_has_its_lock_files(stored: tuple[Path, list[oci.Built]]) -> None:
    for lock in ("storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"):
        assert (stored[0] / lock).exists()


_missing = [tool for tool in _DISK_TOOLS if not command.installed(tool)]
needs_disk_tools = pytest.mark.skipif(bool(_missing), reason=f"not installed: {', '.join(_missing)}")


def write_disk(folder: Path, sector_size: int) -> Path:
    """A disk image of a small tree, whose files belong to another user than root where that can be had."""
    data = make_tree(folder / "data")
    if os.getuid() == 0:
        os.chown(data / "secret", 1234, 1234)
    (folder / "efi").write_bytes(b"MZ" + bytes(range(256)) * 400)
    disk.write(folder / "efi", data, folder / "kios.img", disk.roomy(sector_size), folder / "disk.log")
    return folder / "kios.img"


@needs_disk_tools
@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_disk_image_reads_back(tmp_path: Path, sector_size: int) -> None:
    image = write_disk(tmp_path, sector_size)
    assert gpt.sector_size_of(image) == sector_size
    table = gpt.read(image, sector_size)
    assert gpt.problems(image, table) == ()
    assert [(part.type_guid, part.name) for part in table.partitions] == [
        (disk.ESP_TYPE, "ESP"),
        (gpt.DATA_PARTITION, "datapart"),
    ]
    assert gpt.find_data_partition(table).number == 2
    assert image.stat().st_size == table.disk_sectors * sector_size
    assert {part.first * sector_size % _MIB for part in table.partitions} == {0}

    with image.open("rb") as file:
        file.seek(table.partition(1).first * sector_size + 11)
        assert int.from_bytes(file.read(2), "little") == sector_size  # FAT: bytes per sector
    loader = tmp_path / "loader"
    tools.run("mcopy", "-i", f"{image}@@{table.partition(1).first * sector_size}", "::EFI/Boot/Bootx64.efi", loader)
    assert loader.read_bytes() == (tmp_path / "efi").read_bytes()

    offset = table.partition(2).first * sector_size
    superblock = ext4.read_superblock(image, offset)
    assert superblock.label == "datapart"
    assert superblock.size <= table.partition(2).sectors * sector_size
    ext4.check(image, offset)
    assert ext4.list_folder(image, offset, "/") == sorted(
        [*(path.name for path in (tmp_path / "data").iterdir()), "lost+found"]
    )
    assert ext4.read_file(image, offset, "/secret") == b"s" * 4095
    rows = tools.run("debugfs", "-R", "ls -p /", f"{image}?offset={offset}").stdout.decode().split()
    owners = {row.split("/")[5]: row.split("/")[3:5] for row in rows}
    assert set(owners) >= {"secret", "bin", "broken"}
    assert {tuple(owner) for owner in owners.values()} == {("0", "0")}
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".p1", ".p2")) == []


@needs_disk_tools
def test_a_disk_image_leaves_room_for_pods(tmp_path: Path) -> None:
    image = write_disk(tmp_path, 512)
    offset = gpt.find_data_partition(gpt.read(image, 512)).first * 512
    stats = dict(
        line.split(":", 1)
        for line in tools.run("debugfs", "-R", "stats -h", f"{image}?offset={offset}").stdout.decode().splitlines()
        if ":" in line
    )
    assert int(stats["Free blocks"]) > 0.15 * int(stats["Block count"])


@needs_disk_tools
def test_a_disk_as_create_image_makes_it_has_the_oddities_of_a_released_one(tmp_path: Path) -> None:
    data = make_tree(tmp_path / "data")
    (data / "bulk").write_bytes(random.Random(1).randbytes(8 << 20))
    (tmp_path / "efi").write_bytes(b"MZ" + bytes(range(256)) * 400)
    image = tmp_path / "kios.img"
    disk.write(tmp_path / "efi", data, image, disk.CREATE_IMAGE, tmp_path / "log")
    table = gpt.read(image, 512)
    assert gpt.problems(image, table) == ()
    part = gpt.find_data_partition(table)
    assert part.first * 512 % _MIB != 0
    assert part.last == table.last_usable
    superblock = ext4.read_superblock(image, part.first * 512)
    assert superblock.block_size == 1024
    assert part.sectors * 512 % 4096 == 2048
    assert 0.1 < superblock.free / superblock.size < 0.35
    ext4.check(image, part.first * 512)


def test_an_image_of_more_than_1_gb_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "efi").touch()
    with (tmp_path / "data/large").open("wb") as large:
        large.truncate(700 * _MIB)
    with pytest.raises(BuildError, match=r"(?s)stay under 1 GB.*Leave containers out"):
        disk.write(tmp_path / "efi", tmp_path / "data", tmp_path / "kios.img", disk.roomy(512), tmp_path / "log")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "efi"]
