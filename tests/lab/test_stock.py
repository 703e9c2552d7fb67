"""What a node's disk is given so that its images are at hand, with small archives and disks, and no QEMU."""

import dataclasses
import gzip
import http.client
import io
import json
import os
import shutil
import tarfile
import tomllib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness import tools
from harness.containers import preload
from harness.containers.registry import CONFIGURATION
from harness.errors import InputError
from harness.lab import builder
from harness.lab.stock import PAUSE, Stock
from harness.storage import gpt, overlay
from harness.storage.disk import Disk
from harness.storage.overlay import File, Tree
from images import layers, oci, storage

_MIB = 1 << 20
_START, _SIZE = 1 * _MIB, 24 * _MIB
_ONE, _TWO = "docker.io/emilyls/one:v1", "docker.io/emilyls/two:v1"


def build(path: Path, name: str, content: bytes) -> oci.Built:
    """An image of one file."""
    root = path.parent / f"{path.name}.root"
    root.mkdir(parents=True)
    (root / "file").write_bytes(content)
    return oci.build(oci.Image(name, ["/file"]), root)


def make_archive(path: Path, name: str, content: bytes = b"content") -> Path:
    """An OCI archive of an image of one file."""
    oci.write_archive(build(path, name, content), path)
    return path


def make_packed_archive(path: Path, name: str, content: bytes) -> Path:
    """The same with its layer compressed by gzip."""
    built = build(path, name, content)
    packed = oci.Blob(gzip.compress(built.layer.data))
    manifest = json.loads(built.manifest.data)
    manifest["layers"][0].update(digest=packed.digest, size=len(packed.data))
    oci.write_archive(dataclasses.replace(built, packed=packed, manifest=oci.Blob(json.dumps(manifest).encode())), path)
    return path


def make_archive_of(path: Path, *names: str) -> Path:
    """An OCI archive of an image for each of the names."""
    parts = [make_archive(path.parent / f"{path.name}.{number}", name, name.encode()) for number, name in enumerate(names)]
    files: dict[str, bytes] = {}
    descriptors: list[Any] = []
    for part in parts:
        with tarfile.open(part) as tar:
            files.update({member.name: found.read() for member in tar if (found := tar.extractfile(member))})
        descriptors += json.loads(files["index.json"])["manifests"]
    files["index.json"] = json.dumps({"manifests": descriptors}).encode()
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def make_store(archives: Sequence[Path], store: Path) -> None:
    """What `python -m images store` does."""
    places = [store.parent / f"{store.name}.{number}" for number in range(len(archives))]
    built = [image for file, place in zip(archives, places, strict=True) for image in layers.read(file, place)]
    storage.preload(built, store)
    for place in places:
        shutil.rmtree(place)


def make_disk(folder: Path, archives: Sequence[Path] = (), filled: int = 0) -> Disk:
    """A disk whose data partition of 24 MiB has a store of `archives`, and `filled` bytes of something else."""
    path, tree = folder / "disk.raw", folder / "tree"
    (tree / "data").mkdir(parents=True)
    (tree / "filled").write_bytes(os.urandom(filled))
    make_store(archives, tree / "data/oci")
    with path.open("wb") as file:
        file.truncate(26 * _MIB)
    layout = f"label: gpt\nstart={_START // 512}, size={_SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    options = f"offset={_START},root_owner=0:0"
    tools.run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", tree, "-E", options, path, f"{_SIZE // 1024}k")
    return Disk.read(path, 512)


def put(disk: Disk, tree: Tree, folder: Path) -> Disk:
    """The disk with `tree` on it, as a node would get it."""
    overlay.create(disk.path, folder / "disk.qcow2", disk.size)
    overlay.inject(folder / "disk.qcow2", disk.path, _START, _SIZE, tree, folder / "scratch")
    overlay.flatten(folder / "disk.qcow2", folder / "flat.raw")
    return Disk.read(folder / "flat.raw", 512)


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Changes the index of an archive."""

    def changed(content: bytes) -> bytes:
        index = json.loads(content)
        change(index)
        return json.dumps(index).encode()

    return replace(file, lambda name, content: changed(content) if name == "index.json" else content)


def replace(file: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Changes the files in an archive."""
    with tarfile.open(file) as tar:
        contents = {member.name: found.read() for member in tar if (found := tar.extractfile(member))}
    with tarfile.open(file, "w") as tar:
        for name, content in contents.items():
            changed = change(name, content)
            entry = tarfile.TarInfo(name)
            entry.size = len(changed)
            tar.addfile(entry, io.BytesIO(changed))
    return file


def configured(tree: Tree) -> dict[str, str]:
    """Where images are pulled from, by the prefix of their names."""
    entry = tree[CONFIGURATION]
    assert isinstance(entry, File)
    return {each["prefix"]: each["location"] for each in tomllib.loads(entry.content.decode())["registry"]}


def status_of(registry: int | None, location: str, tag: str) -> int:
    """What the registry behind a port answers a node that pulls."""
    address, _, path = location.partition("/")
    assert (address, registry is None) == ("198.51.100.1:5000", False)
    connection = http.client.HTTPConnection("127.0.0.1", registry, timeout=5)
    try:
        connection.request("HEAD", f"/v2/{path}/manifests/{tag}")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the archives of which stores were made, in place of `python -m images`, by the store."""
    asked: list[list[str]] = []
    builder_ask = builder.ask

    def ask(command: str, *arguments: str | Path) -> str:
        if command == "describe":
            return builder_ask(command, *arguments)
        *archives, option, output = arguments
        assert (command, option) == ("store", "--output")
        make_store([Path(file) for file in archives], Path(output))
        asked.append([Path(file).name for file in archives])
        return str(output)

    monkeypatch.setattr(builder, "ask", ask)
    return asked


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """The folder of a reference image with the archives of PAUSE, _ONE and _TWO."""
    folder = tmp_path / "reference"
    for name, image in {"pause": PAUSE, "one": _ONE, "two": _TWO}.items():
        make_archive(folder / "containers" / f"{name}.tar", image, name.encode())
    return folder


@pytest.fixture
def archives(reference: Path) -> dict[str, Path]:
    """Its archives, by their names without the ending."""
    return {file.stem: file for file in (reference / "containers").glob("*.tar")}


@pytest.fixture
def stocked(reference: Path, tmp_path: Path, asked: list[list[str]]) -> Stock:
    return Stock(lambda: reference, (), tmp_path / "stores")


def test_a_disk_that_has_all_is_given_nothing(tmp_path: Path, archives: dict[str, Path], asked: list[list[str]]) -> None:
    def build() -> Path:
        raise AssertionError("a reference image is built that nobody needs")

    disk = make_disk(tmp_path, [archives["pause"], archives["one"]])
    with ExitStack() as served:
        assert Stock(build, (), tmp_path / "stores").supply(disk, [_ONE, "emilyls/one:v1"], served).files == {}
    assert not asked


def test_a_disk_is_given_what_it_lacks_of_what_is_asked_for(
    tmp_path: Path, archives: dict[str, Path], stocked: Stock, asked: list[list[str]]
) -> None:
    disk = make_disk(tmp_path, [archives["one"]])
    with ExitStack() as served:
        supplies = stocked.supply(disk, ["emilyls/one:v1"], served)
        # A pod that is handed to the node later finds its image too.
        places = configured(supplies.files)
        assert list(places) == ["docker.io/emilyls/two"]
        assert status_of(supplies.registry, places["docker.io/emilyls/two"], "v1") == 200
        assert status_of(supplies.registry, "198.51.100.1:5000/registry.k8s.io/pause", "3.6") == 404
    assert asked == [["pause.tar"]]
    assert preload.missing(put(disk, supplies.files, tmp_path), [PAUSE, _ONE, _TWO]) == [_TWO]


def test_where_all_has_room_nothing_is_served(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path)
    with ExitStack() as served:
        supplies = stocked.supply(disk, [_ONE, _TWO], served)
    assert (supplies.registry, CONFIGURATION in supplies.files) == (None, False)
    assert asked == [["pause.tar", "one.tar", "two.tar"]]
    assert preload.missing(put(disk, supplies.files, tmp_path), [PAUSE, _ONE, _TWO]) == []


def test_an_archive_of_several_images_has_all_of_them_at_hand(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    both = make_archive_of(tmp_path / "both.tar", "docker.io/a/x:1", "docker.io/a/y:1")
    disk = make_disk(tmp_path)
    with ExitStack() as served:
        supplies = Stock(lambda: reference, (both,), tmp_path / "stores").supply(disk, ["docker.io/a/y:1"], served)
        assert status_of(supplies.registry, configured(supplies.files)["docker.io/a/x"], "1") == 200
    after = put(disk, supplies.files, tmp_path)
    assert preload.missing(after, ["docker.io/a/x:1", "docker.io/a/y:1"]) == ["docker.io/a/x:1"]


def test_an_image_is_found_by_its_digest(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    built = build(tmp_path / "mine.tar", "docker.io/a/x:1", b"x")
    oci.write_archive(built, tmp_path / "mine.tar")
    stock = Stock(lambda: reference, (tmp_path / "mine.tar",), tmp_path / "stores")
    name, disk = f"docker.io/a/x@{built.manifest.digest}", make_disk(tmp_path)
    with ExitStack() as served:
        tree = stock.supply(disk, [name], served).files
        with pytest.raises(InputError, match="no such image"):
            stock.supply(disk, [f"docker.io/a/y@{built.manifest.digest}"], served)
    assert preload.missing(put(disk, tree, tmp_path), [name]) == []


def test_a_changed_archive_is_read_again(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    mine, disk = tmp_path / "mine.tar", make_disk(tmp_path)
    stock = Stock(lambda: reference, (mine,), tmp_path / "stores")
    for name in ("docker.io/a/x:1", "docker.io/a/longer:1"):
        shutil.rmtree(tmp_path / "mine.tar.root", ignore_errors=True)
        make_archive(mine, name, name.encode() * 1000)
        with ExitStack() as served:
            assert stock.supply(disk, [name], served).files


def test_what_was_named_is_at_hand_where_a_disk_lacks_nothing_yet(
    tmp_path: Path, archives: dict[str, Path], asked: list[list[str]]
) -> None:
    def build() -> Path:
        raise AssertionError("a reference image is built that nobody needs")

    mine = make_archive(tmp_path / "mine.tar", "docker.io/a/x:1")
    disk = make_disk(tmp_path, [archives["pause"]])
    with ExitStack() as served:
        supplies = Stock(build, (mine,), tmp_path / "stores").supply(disk, [], served)
        assert status_of(supplies.registry, configured(supplies.files)["docker.io/a/x"], "1") == 200
    assert not asked


def test_two_archives_of_one_name_are_refused(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    mine = tuple(make_archive(tmp_path / f"{name}.tar", "docker.io/a/x:1", name.encode()) for name in ("a", "b"))
    with ExitStack() as served, pytest.raises(InputError, match=r"a\.tar and .*b\.tar hold different images of one name"):
        Stock(lambda: reference, mine, tmp_path / "stores").supply(make_disk(tmp_path), [], served)


def test_an_unknown_image_is_named_with_what_to_do(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    with (
        ExitStack() as served,
        pytest.raises(
            InputError,
            match=rf"^emilyls/three, four: no such image is in the store of .*disk\.raw or .* at hand "
            rf"\({_ONE}, {_TWO}, {PAUSE}\)\. Give its OCI archive: --container FILE",
        ),
    ):
        stocked.supply(make_disk(tmp_path), ["emilyls/three", "emilyls/one:v1", "four"], served)
    assert not asked


def test_what_has_no_room_is_served_until_the_node_ends(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path, filled=18 * _MIB)
    with ExitStack() as served:
        supplies = stocked.supply(disk, [_TWO], served)
        assert list(supplies.files) == [CONFIGURATION]
        places, registry = configured(supplies.files), supplies.registry
        assert set(places) == {"registry.k8s.io/pause", "docker.io/emilyls/one", "docker.io/emilyls/two"}
        assert [status_of(registry, places["docker.io/emilyls/two"], tag) for tag in ("v1", "v2")] == [200, 404]
        assert status_of(registry, places["registry.k8s.io/pause"], "3.6") == 200
    with pytest.raises(OSError, match="refused"):
        status_of(registry, places["docker.io/emilyls/two"], "v1")
    assert not asked


def test_the_room_goes_to_what_is_asked_for_first(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    # 24 MiB, of which a fifth stays free: one of these finds room.
    large = [
        make_archive(tmp_path / f"{name}.tar", f"docker.io/emilyls/{name}:v1", os.urandom(10 * _MIB))
        for name in ("big", "vast")
    ]
    disk = make_disk(tmp_path)
    with ExitStack() as served:
        supplies = Stock(lambda: reference, tuple(large), tmp_path / "stores").supply(disk, ["emilyls/vast:v1"], served)
        tree = supplies.files
        assert "docker.io/emilyls/big" in configured(tree)
        assert status_of(supplies.registry, configured(tree)["docker.io/emilyls/big"], "v1") == 200
    assert asked[0][:2] == ["pause.tar", "vast.tar"]
    after = put(disk, tree, tmp_path)
    assert preload.missing(after, [PAUSE, "emilyls/vast:v1", "emilyls/big:v1"]) == ["emilyls/big:v1"]
    assert after.superblock().free > 0.2 * after.superblock().size


def test_a_compressed_image_needs_the_room_of_what_it_unpacks_to(
    tmp_path: Path, reference: Path, asked: list[list[str]]
) -> None:
    packed = make_packed_archive(tmp_path / "packed.tar", "docker.io/emilyls/packed:v1", bytes(22 * _MIB))
    assert packed.stat().st_size < _MIB
    with ExitStack() as served:
        stock = Stock(lambda: reference, (packed,), tmp_path / "stores")
        tree = stock.supply(make_disk(tmp_path), [_ONE, "emilyls/packed:v1"], served).files
    assert list(configured(tree)) == ["docker.io/emilyls/packed", "docker.io/emilyls/two"]
    assert asked == [["pause.tar", "one.tar"]]


def test_a_named_archive_goes_before_the_reference_images(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    mine = make_archive(tmp_path / "mine.tar", _ONE, b"mine")
    with ExitStack() as served:
        tree = Stock(lambda: reference, (mine,), tmp_path / "stores").supply(make_disk(tmp_path), [_ONE], served).files
    assert asked == [["pause.tar", "mine.tar"]]
    contents = [entry.content for entry in tree.values() if isinstance(entry, File)]
    assert b"mine" in contents
    assert b"one" not in contents


def test_a_store_is_made_once(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path)
    with ExitStack() as served:
        trees = [stocked.supply(disk, names, served).files for names in ([], [PAUSE], [])]
    assert trees[0] == trees[1] == trees[2] != {}
    assert len(asked) == 1


def test_other_content_is_another_store(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path)
    for content in (b"old", b"new"):
        mine = make_archive(tmp_path / content.decode() / "mine.tar", "docker.io/emilyls/mine:v1", content)
        with ExitStack() as served:
            tree = Stock(lambda: reference, (mine,), tmp_path / "stores").supply(disk, ["emilyls/mine:v1"], served).files
        assert content in [entry.content for entry in tree.values() if isinstance(entry, File)]
    assert len(asked) == 2


def test_the_full_name_is_taken_where_the_other_is_a_tag(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    def rename(index: dict[str, Any]) -> None:
        index["manifests"][0]["annotations"] = {
            "org.opencontainers.image.ref.name": "v1",
            "io.containerd.image.name": "docker.io/emilyls/mine:v1",
        }

    mine = rewrite(make_archive(tmp_path / "mine.tar", "docker.io/emilyls/other:v1"), rename)
    with ExitStack() as served:
        Stock(lambda: reference, (mine,), tmp_path / "stores").supply(make_disk(tmp_path), ["emilyls/mine:v1"], served)
    assert "mine.tar" in asked[0]


def _tag_only(index: dict[str, Any]) -> None:
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "v1"}


def _unannotated(index: dict[str, Any]) -> None:
    del index["manifests"][0]["annotations"]


@pytest.mark.parametrize("change", [_tag_only, _unannotated], ids=["a tag only", "no name"])
def test_an_archive_without_the_full_name_is_refused(
    tmp_path: Path, reference: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    mine = rewrite(make_archive(tmp_path / "mine.tar", "docker.io/emilyls/mine:v1"), change)
    with ExitStack() as served, pytest.raises(InputError, match=r"mine\.tar names its image .*, which is not a full name"):
        Stock(lambda: reference, (mine,), tmp_path / "stores").supply(make_disk(tmp_path), [], served)


def _missing(path: Path) -> None:
    path.unlink()


def _no_tar(path: Path) -> None:
    path.write_bytes(b"no tar" * 200)


def _no_index(path: Path) -> None:
    with tarfile.open(path, "w"):
        pass


def _no_image(path: Path) -> None:
    rewrite(path, lambda index: index.update(manifests=[]))


def _no_list(path: Path) -> None:
    rewrite(path, lambda index: index.update(manifests=None))


@pytest.mark.parametrize(
    "spoil", [_missing, _no_tar, _no_index, _no_image, _no_list], ids=lambda each: each.__name__.strip("_")
)
def test_what_is_no_archive_is_named(tmp_path: Path, reference: Path, spoil: Callable[[Path], None]) -> None:
    mine = make_archive(tmp_path / "mine.tar", "docker.io/emilyls/mine:v1")
    spoil(mine)
    with (
        ExitStack() as served,
        pytest.raises(InputError, match=r"(?s)mine\.tar (is no|holds no image).*skopeo.* copy "),
    ):
        Stock(lambda: reference, (mine,), tmp_path / "stores").supply(make_disk(tmp_path), [], served)
