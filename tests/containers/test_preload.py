"""Stores of containers, merged on a small disk and read back from it; and the names by which CRI-O finds images."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness import tools
from harness.containers import preload, reference
from harness.errors import HarnessError, InputError
from harness.storage import gpt, overlay
from harness.storage.disk import Disk
from images import oci, storage

_MIB = 1 << 20
_START, _SIZE = 1 * _MIB, 24 * _MIB
_DIGEST = "sha256:" + "0" * 64
_LISTS = {"overlay-images/images.json", "overlay-layers/layers.json"}


def build(folder: Path, name: str, content: bytes = b"content", command: Sequence[str] = ()) -> oci.Built:
    """An image with a file, a link, and folders of several modes; equal content is an equal layer."""
    root = folder / name.replace("/", "_") / "root"
    (root / "tmp").mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/a program").write_bytes(content)
    (root / "usr/bin/a program").chmod(0o4755)
    (root / "bin").symlink_to("usr/bin")
    return oci.build(oci.Image(name, ["/bin/a"], command), root)


def make_store(store: Path, images: Iterable[oci.Built]) -> Path:
    storage.preload(list(images), store)
    return store


def all_files(disk: Disk, store: Path) -> overlay.Tree:
    """What is to be put on the disk for all images of the store."""
    records = json.loads((store / "overlay-images/images.json").read_text())
    return preload.files(disk, store, [name for record in records for name in record["names"]])


def make_disk(folder: Path, store: Path | None) -> Disk:
    """A disk whose data partition has a store at /data/oci."""
    path, tree = folder / "disk.raw", folder / "tree"
    (tree / "data").mkdir(parents=True)
    if store:
        shutil.copytree(store, tree / "data/oci", symlinks=True)
    with path.open("wb") as file:
        file.truncate(26 * _MIB)
    layout = f"label: gpt\nstart={_START // 512}, size={_SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    tools.run("sfdisk", "-q", path, input=layout.encode())
    options = f"offset={_START},root_owner=0:0"
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", options, path, f"{_SIZE // 1024}k")
    return Disk.read(path, 512)


def put(disk: Disk, tree: overlay.Tree, folder: Path) -> Disk:
    """The disk with `tree` on it, as a node would get it."""
    overlay.create(disk.path, folder / "disk.qcow2", disk.size)
    overlay.inject(folder / "disk.qcow2", disk.path, _START, _SIZE, tree, folder / "scratch")
    overlay.flatten(folder / "disk.qcow2", folder / "flat.raw")
    return Disk.read(folder / "flat.raw", 512)


def store_of(disk: Disk, place: Path) -> Path:
    """The store of a disk, copied out of it."""
    place.mkdir()
    tools.run("debugfs", "-R", f'rdump /data/oci "{place}"', f"{disk.path}?offset={_START}")
    return place / "oci"


def inventory(store: Path) -> dict[str, Any]:
    """All that is in a store: mode, and content or target, by path; the lists by id, as their order means nothing."""
    found: dict[str, Any] = {}
    for path in sorted(store.rglob("*")):
        name, mode = str(path.relative_to(store)), oct(path.lstat().st_mode & ~0o7000)  # of which rdump copies nothing
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = mode
        elif name in _LISTS:
            records = json.loads(path.read_bytes())
            found[name] = (mode, {record["id"]: record for record in records}, len(records))
        else:
            found[name] = (mode, path.read_bytes())
    return found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A disk with one image, docker.io/emilyls/one:v1, and beside it `old`, its store; no test may write to either."""
    folder = tmp_path_factory.mktemp("base")
    return make_disk(folder, make_store(folder / "old", [build(folder, "docker.io/emilyls/one:v1", b"1")]))


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("docker.io/emilyls/dhcp:9.4.1", "docker.io/emilyls/dhcp:9.4.1"),
        ("emilyls/dhcp", "docker.io/emilyls/dhcp:latest"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("index.docker.io/emilyls/dhcp", "docker.io/emilyls/dhcp:latest"),
        ("localhost/console", "localhost/console:latest"),
        ("host:5000/a/b__c--d.e", "host:5000/a/b__c--d.e:latest"),
        ("Host/a:v1", "Host/a:v1"),
        (f"docker.io/emilyls/dhcp:9.4.1@{_DIGEST}", f"docker.io/emilyls/dhcp@{_DIGEST}"),
        (f"busybox@{_DIGEST}", f"docker.io/library/busybox@{_DIGEST}"),
        (f"a@sha512:{'0' * 128}", f"docker.io/library/a@sha512:{'0' * 128}"),
        (f"host.example/{'a' * 255}", f"host.example/{'a' * 255}:latest"),
    ],
)
def test_a_name_is_read_in_full(name: str, full: str) -> None:
    assert str(reference.parse(name)) == full


@pytest.mark.parametrize(
    "name",
    [
        *("", "docker.io/", "docker.io/A:1", "a:b:c", "https://docker.io/a", "a b", "a@sha256:1", "a/-b", "a:"),
        *(f"a@sha512:{'0' * 64}", f"a@md5:{'0' * 32}", f"host.example/{'a' * 256}", "0" * 64),
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="is no name of a container image"):
        reference.parse(name)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("docker.io/emilyls/one:v1", True),
        ("emilyls/one:v1", True),
        ("docker.io/emilyls/one:v2", False),
        ("docker.io/emilyls/one", False),
        ("localhost/emilyls/one:v1", False),
        ("docker.io/emilyls/one@MANIFEST", True),
        ("docker.io/emilyls/one:v9@MANIFEST", True),
        ("docker.io/emilyls/two@MANIFEST", False),
        (f"docker.io/emilyls/one@{_DIGEST}", False),
        ("docker.io/emilyls/one@CONFIG", False),
    ],
)
def test_an_image_is_missing_unless_the_node_finds_it_by_that_name(disk: Disk, name: str, there: bool) -> None:
    (record,) = json.loads((disk.path.parent / "old/overlay-images/images.json").read_text())
    name = name.replace("MANIFEST", record["digest"]).replace("CONFIG", f"sha256:{record['id']}")
    assert preload.missing(disk, [name]) == ([] if there else [name])


def test_missing_images_are_told_once_as_they_were_asked_for(disk: Disk) -> None:
    asked = ["two:v1", "emilyls/one:v1", "docker.io/emilyls/two:v1", "two:v1"]
    assert preload.missing(disk, asked) == ["two:v1", "docker.io/emilyls/two:v1"]


def test_an_odd_name_in_the_store_hides_no_other(tmp_path: Path) -> None:
    store = make_store(tmp_path / "old", [build(tmp_path, "docker.io/emilyls/one:v1")])
    change_list(store, "overlay-images/images.json", lambda image: {**image, "names": ["ODD", *image["names"]]})
    assert preload.missing(make_disk(tmp_path, store), ["emilyls/one:v1", "emilyls/two:v1"]) == ["emilyls/two:v1"]


def test_without_a_store_all_are_missing(tmp_path: Path) -> None:
    assert preload.missing(make_disk(tmp_path, None), ["busybox"]) == ["busybox"]


def test_a_merged_store_is_the_store_of_all_images(disk: Disk, tmp_path: Path) -> None:
    one, two, three = (
        build(tmp_path / "all", f"docker.io/emilyls/{name}:v1", content)
        for name, content in (("one", b"1"), ("two", b"22"), ("three", b"2" * 70000))
    )
    store = make_store(tmp_path / "new", [two, three])
    merged = put(disk, all_files(disk, store), tmp_path)
    merged.check_filesystem()
    found = inventory(store_of(merged, tmp_path / "merged"))
    assert found == inventory(make_store(tmp_path / "wanted", [one, two, three]))
    assert preload.missing(merged, [image.names[0] for image in (one, two, three)]) == []


def test_a_disk_without_a_store_gets_one(tmp_path: Path) -> None:
    disk, store = make_disk(tmp_path, None), make_store(tmp_path / "new", [build(tmp_path, "docker.io/emilyls/one:v1")])
    found = inventory(store_of(put(disk, all_files(disk, store), tmp_path), tmp_path / "merged"))
    wanted = inventory(store)
    # containers/storage makes its locks itself.
    assert wanted.keys() - found.keys() == {"storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"}
    assert {name: wanted[name] for name in found} == found


def test_what_is_there_already_is_not_put_there_again(disk: Disk) -> None:
    assert preload.files(disk, disk.path.parent / "old", ["emilyls/one:v1"]) == {}


def test_modes_go_with_the_files(disk: Disk, tmp_path: Path) -> None:
    tree = all_files(disk, make_store(tmp_path / "new", [build(tmp_path, "docker.io/emilyls/two:v1")]))
    found = {path.name: entry.mode for path, entry in tree.items() if isinstance(entry, overlay.File | overlay.Folder)}
    assert (found["a program"], found["tmp"], found["bin"]) == (0o4755, 0o1777, 0o755)


def test_a_layer_that_is_there_is_not_put_there_again(disk: Disk, tmp_path: Path) -> None:
    shares = build(tmp_path, "docker.io/emilyls/shares:v1", b"1", ["-v"])
    tree = all_files(disk, make_store(tmp_path / "new", [shares]))
    assert not any("overlay" in path.parts for path in tree)
    layers = json.loads(content_of(tree, "overlay-layers/layers.json"))
    assert [layer["id"] for layer in layers] == [shares.layer.digest.removeprefix("sha256:")]
    assert len(json.loads(content_of(tree, "overlay-images/images.json"))) == 2


def test_another_name_of_an_image_that_is_there_is_added_to_it(disk: Disk, tmp_path: Path) -> None:
    store = make_store(tmp_path / "new", [build(tmp_path, "docker.io/emilyls/again:v1", b"1")])
    tree = all_files(disk, store)
    (record,) = json.loads(content_of(tree, "overlay-images/images.json"))
    assert record["names"] == ["docker.io/emilyls/one:v1", "docker.io/emilyls/again:v1"]
    assert {str(path.relative_to(preload.STORE)) for path in tree} == _LISTS


def test_a_name_that_is_there_keeps_its_meaning(disk: Disk, tmp_path: Path) -> None:
    other = build(tmp_path / "other", "docker.io/emilyls/one:v1", b"other")
    assert all_files(disk, make_store(tmp_path / "new", [other])) == {}
    store = tmp_path / "new"
    change_list(store, "overlay-images/images.json", lambda image: {**image, "names": [*image["names"], "docker.io/a/b:v1"]})
    records = json.loads(content_of(all_files(disk, store), "overlay-images/images.json"))
    assert [record["names"] for record in records] == [["docker.io/emilyls/one:v1"], ["docker.io/a/b:v1"]]


def test_layers_come_with_those_under_them(disk: Disk, tmp_path: Path) -> None:
    images = [build(tmp_path, f"docker.io/emilyls/{name}:v1", name.encode()) for name in ("above", "below", "aside")]
    store = make_store(tmp_path / "new", images)
    above, below, aside = (image.layer.digest.removeprefix("sha256:") for image in images)
    change_list(
        store, "overlay-layers/layers.json", lambda layer: {**layer, **({"parent": below} if layer["id"] == above else {})}
    )
    change_list(store, "overlay-images/images.json", lambda image: image if image["layer"] == above else {**image, "names": []})
    tree = all_files(disk, store)
    assert preload.STORE / "overlay" / below / "diff" in tree
    assert not any(aside in path.parts for path in tree)
    assert len([path for path in tree if path.parent == preload.STORE / "overlay/l"]) == 2


def test_only_what_is_named_is_put_there(disk: Disk, tmp_path: Path) -> None:
    images = [build(tmp_path, f"docker.io/emilyls/{name}:v1", name.encode()) for name in ("two", "three")]
    tree = preload.files(disk, make_store(tmp_path / "new", images), ["emilyls/two:v1", f"emilyls/none@{_DIGEST}"])
    records = json.loads(content_of(tree, "overlay-images/images.json"))
    assert [record["names"] for record in records] == [["docker.io/emilyls/one:v1"], ["docker.io/emilyls/two:v1"]]
    assert not any(images[1].layer.digest.removeprefix("sha256:") in path.parts for path in tree)


@pytest.mark.parametrize(
    "damage",
    [
        {"id": 5},
        {"id": [1]},
        {"names": "docker.io/a/b:v1"},
        {"names": [5]},
        {"names": [None]},
        {"names": {"a": 1}},
        {"digest": ["a"]},
        {"big-data-digests": {"manifest": 5}},
        {"big-data-digests": ["manifest"]},
        {"layer": []},
    ],
    ids=repr,
)
def test_a_record_of_another_shape_is_refused_in_words(tmp_path: Path, damage: dict[str, Any]) -> None:
    store = make_store(tmp_path / "old", [build(tmp_path, "docker.io/emilyls/one:v1")])
    change_list(store, "overlay-images/images.json", lambda image: {**image, **damage})
    with pytest.raises(InputError, match=f"images.json has a record whose {next(iter(damage))} is not what it has to be"):
        preload.missing(make_disk(tmp_path, store), ["busybox"])


def test_null_is_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "old", [build(tmp_path, "docker.io/emilyls/one:v1")])
    nothing = dict.fromkeys(("names", "digest", "big-data-digests", "layer"))
    change_list(store, "overlay-images/images.json", lambda image: {**image, **nothing})
    assert preload.missing(make_disk(tmp_path, store), ["emilyls/one:v1"]) == ["emilyls/one:v1"]


def lose_layer_record(store: Path) -> None:
    (store / "overlay-layers/layers.json").write_text("[]")


def add_fifo(store: Path) -> None:
    os.mkfifo(next((store / "overlay-images").glob("*/")) / "fifo")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda store: (store / "overlay-images/images.json").unlink(), "No such file or directory: .*images.json"),
        (lambda store: (store / "overlay-images/images.json").write_text("{"), "images.json is no JSON"),
        (lambda store: (store / "overlay-images/images.json").write_text('["x"]'), "images.json is no list of records"),
        (lambda store: shutil.rmtree(next((store / "overlay-images").glob("*/"))), "it has no folder overlay-images/"),
        (lose_layer_record, "it has no layer"),
        (add_fifo, "fifo is neither a file nor a folder"),
    ],
    ids=["no list", "no JSON", "no records", "no folder", "no layer", "fifo"],
)
def test_a_damaged_store_is_an_error(disk: Disk, tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    store = make_store(tmp_path / "new", [build(tmp_path, "docker.io/emilyls/two:v1")])
    damage(store)
    with pytest.raises(HarnessError, match=says):
        preload.files(disk, store, ["docker.io/emilyls/two:v1"])


@pytest.mark.parametrize(
    "text", ["{", '{"id": 1}', '[{"names": []}]', '[{"id": null}]', "[1]", "[" * 100_000], ids=lambda text: text[:9]
)
def test_a_damaged_store_on_the_disk_is_an_error(tmp_path: Path, text: str) -> None:
    store = make_store(tmp_path / "old", [build(tmp_path, "docker.io/emilyls/one:v1")])
    (store / "overlay-images/images.json").write_text(text)
    disk = make_disk(tmp_path, store)
    with pytest.raises(
        InputError, match=f"(?s)The store /data/oci on the data partition of {disk.path}: .*images.json is no .*Make it"
    ):
        preload.missing(disk, ["busybox"])


def change_list(store: Path, name: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    path = store / name
    path.write_text(json.dumps([change(record) for record in json.loads(path.read_text())]))


def content_of(tree: overlay.Tree, name: str) -> bytes:
    content = tree[preload.STORE / PurePosixPath(name)]
    assert isinstance(content, bytes)
    return content
