"""The archives at hand: which images they are found to hold, and which are refused."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.containers import preload
from harness.containers.registry import CONFIGURATION
from harness.errors import InputError
from harness.lab.stock import PAUSE, Stock
from harness.storage.overlay import File
from images import oci
from tests.lab.small_archives import MIB, ONE, TWO, build, configured, make_archive, make_disk, put, status_of


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
            rf"\({ONE}, {TWO}, {PAUSE}\)\. Give its OCI archive: --container FILE",
        ),
    ):
        stocked.supply(make_disk(tmp_path), ["emilyls/three", "emilyls/one:v1", "four"], served)
    assert not asked


def test_what_has_no_room_is_served_until_the_node_ends(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path, filled=18 * MIB)
    with ExitStack() as served:
        supplies = stocked.supply(disk, [TWO], served)
        assert list(supplies.files) == [CONFIGURATION]
        places, registry = configured(supplies.files), supplies.registry
        assert set(places) == {"registry.k8s.io/pause", "docker.io/emilyls/one", "docker.io/emilyls/two"}
        assert [status_of(registry, places["docker.io/emilyls/two"], tag) for tag in ("v1", "v2")] == [200, 404]
        assert status_of(registry, places["registry.k8s.io/pause"], "3.6") == 200
    with pytest.raises(OSError, match="refused"):
        status_of(registry, places["docker.io/emilyls/two"], "v1")
    assert not asked


def test_a_named_archive_goes_before_the_reference_images(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    mine = make_archive(tmp_path / "mine.tar", ONE, b"mine")
    with ExitStack() as served:
        tree = Stock(lambda: reference, (mine,), tmp_path / "stores").supply(make_disk(tmp_path), [ONE], served).files
    assert asked == [["pause.tar", "mine.tar"]]
    contents = [entry.content for entry in tree.values() if isinstance(entry, File)]
    assert b"mine" in contents
    assert b"one" not in contents


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
