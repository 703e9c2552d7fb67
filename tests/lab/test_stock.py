"""What a node's disk is given so that its images are at hand, with small archives and disks, and no QEMU."""

import dataclasses
import gzip
import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.containers import preload
from harness.containers.registry import CONFIGURATION
from harness.lab.stock import PAUSE, Stock
from harness.storage.overlay import File
from images import oci
from tests.lab.small_archives import MIB, ONE, TWO, build, configured, make_archive, make_disk, put, status_of


def make_packed_archive(path: Path, name: str, content: bytes) -> Path:
    """The same with its layer compressed by gzip."""
    built = build(path, name, content)
    packed = oci.Blob(gzip.compress(built.layer.data))
    manifest = json.loads(built.manifest.data)
    manifest["layers"][0].update(digest=packed.digest, size=len(packed.data))
    oci.write_archive(dataclasses.replace(built, packed=packed, manifest=oci.Blob(json.dumps(manifest).encode())), path)
    return path


def test_a_disk_that_has_all_is_given_nothing(tmp_path: Path, archives: dict[str, Path], asked: list[list[str]]) -> None:
    def build() -> Path:
        raise AssertionError("a reference image is built that nobody needs")

    disk = make_disk(tmp_path, [archives["pause"], archives["one"]])
    with ExitStack() as served:
        assert Stock(build, (), tmp_path / "stores").supply(disk, [ONE, "emilyls/one:v1"], served).files == {}
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
    assert preload.missing(put(disk, supplies.files, tmp_path), [PAUSE, ONE, TWO]) == [TWO]


def test_where_all_has_room_nothing_is_served(tmp_path: Path, stocked: Stock, asked: list[list[str]]) -> None:
    disk = make_disk(tmp_path)
    with ExitStack() as served:
        supplies = stocked.supply(disk, [ONE, TWO], served)
    assert (supplies.registry, CONFIGURATION in supplies.files) == (None, False)
    assert asked == [["pause.tar", "one.tar", "two.tar"]]
    assert preload.missing(put(disk, supplies.files, tmp_path), [PAUSE, ONE, TWO]) == []


def test_the_room_goes_to_what_is_asked_for_first(tmp_path: Path, reference: Path, asked: list[list[str]]) -> None:
    # 24 MiB, of which a fifth stays free: one of these finds room.
    large = [
        make_archive(tmp_path / f"{name}.tar", f"docker.io/emilyls/{name}:v1", os.urandom(10 * MIB)) for name in ("big", "vast")
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


@pytest.mark.parametrize(("reserved", "has_room"), [(0, True), (15, False)])
def test_what_is_roots_is_no_room(
    tmp_path: Path, reference: Path, asked: list[list[str]], reserved: int, has_room: bool
) -> None:
    large = make_archive(tmp_path / "vast.tar", "docker.io/emilyls/vast:v1", os.urandom(10 * MIB))
    with ExitStack() as served:
        stock = Stock(lambda: reference, (large,), tmp_path / "stores")
        stock.supply(make_disk(tmp_path, reserved=reserved), ["emilyls/vast:v1"], served)
    assert ("vast.tar" in asked[0]) == has_room


def test_a_compressed_image_needs_the_room_of_what_it_unpacks_to(
    tmp_path: Path, reference: Path, asked: list[list[str]]
) -> None:
    packed = make_packed_archive(tmp_path / "packed.tar", "docker.io/emilyls/packed:v1", bytes(22 * MIB))
    assert packed.stat().st_size < MIB
    with ExitStack() as served:
        stock = Stock(lambda: reference, (packed,), tmp_path / "stores")
        tree = stock.supply(make_disk(tmp_path), [ONE, "emilyls/packed:v1"], served).files
    assert list(configured(tree)) == ["docker.io/emilyls/packed", "docker.io/emilyls/two"]
    assert asked == [["pause.tar", "one.tar"]]


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
