"""OCI archives of others: what they hold, under which names, for which machines, and the store made of them."""

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from images import layers, oci, storage
from images.errors import ArchiveError, BuildError
from tests.images.archive_layout import (
    AMD64,
    ARM64,
    MANIFEST,
    NAME,
    REF_NAME,
    Layout,
    digest_of,
    file,
    layout_of,
    read,
    run,
    tar_of,
    tree_of,
)


def test_an_archive_of_ours_reads_back_as_what_was_built(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/a").write_bytes(b"\x7fELF")
    (root / "bin/b").symlink_to("a")
    built = oci.build(oci.Image(NAME, ["/bin/a"]), root)
    oci.write_archive(built, tmp_path / "image.tar")
    (back,) = layers.read(tmp_path / "image.tar", tmp_path / "work")
    assert (back.names, back.layer, back.packed) == ([NAME], built.layer, built.layer)
    assert (back.config, back.manifest) == (built.config, built.manifest)
    assert tree_of(back.root) == {"bin": None, "bin/a": b"\x7fELF", "bin/b": "a"}


def test_an_image_of_one_compressed_layer_keeps_its_digests(tmp_path: Path) -> None:
    layout = layout_of([file("a", b"a" * 5000)], pack=gzip.compress)
    built = read(layout, tmp_path)
    assert built.manifest.digest == layout.index[0]["digest"]
    assert json.loads(built.manifest.data)["layers"][0]["digest"] == built.packed.digest != built.layer.digest
    assert json.loads(built.config.data)["rootfs"]["diff_ids"] == [built.layer.digest]
    storage.preload([built], tmp_path / "store")
    (layer,) = json.loads((tmp_path / "store/overlay-layers/layers.json").read_text())
    assert (layer["compressed-diff-digest"], layer["compressed-size"]) == (built.packed.digest, len(built.packed.data))
    assert (layer["diff-digest"], layer["diff-size"]) == (built.layer.digest, len(built.layer.data))
    assert layer["compression"] == 2  # containers/storage, pkg/archive: Gzip


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({REF_NAME: "registry.k8s.io/pause:3.6"}, "registry.k8s.io/pause:3.6"),
        ({REF_NAME: "v1", "io.containerd.image.name": NAME}, NAME),
        ({REF_NAME: "docker.io/busybox:1"}, "docker.io/library/busybox:1"),
        ({REF_NAME: "localhost/kios-e2e/console:v1"}, "localhost/kios-e2e/console:v1"),
        ({REF_NAME: "host:5000/a/b:v1"}, "host:5000/a/b:v1"),
    ],
    ids=["ref.name", "containerd's", "hub", "localhost", "port"],
)
def test_an_image_has_its_full_name(tmp_path: Path, annotations: Mapping[str, str], name: str) -> None:
    layout = Layout()
    layout.name(layout.add_image([tar_of([file("a")])]), **annotations)
    assert read(layout, tmp_path).names == [name]


@pytest.mark.parametrize("name", ["", "v1", "busybox:1", "emilyls/tinycat:v1", "docker.io/emilyls/tinycat", "docker.io/A:1"])
def test_a_name_that_is_not_full_is_refused(tmp_path: Path, name: str) -> None:
    layout = Layout()
    layout.name(layout.add_image([tar_of([file("a")])]), **({REF_NAME: name} if name else {}))
    with pytest.raises(BuildError, match=rf"(?s)image.tar names its image '{name}'.*skopeo copy oci-archive:.*HOST/PATH:TAG"):
        read(layout, tmp_path)


def test_an_archive_can_hold_several_images_and_an_image_several_names(tmp_path: Path) -> None:
    layout = Layout()
    one, two = layout.add_image([tar_of([file("one")])]), layout.add_image([tar_of([file("two")])])
    for descriptor, name in ((one, "docker.io/a/one:1"), (two, "docker.io/a/two:1"), (one, "docker.io/a/one:2")):
        layout.name(descriptor, **{REF_NAME: name})
    images = layers.read(layout.write(tmp_path / "image.tar"), tmp_path / "work")
    assert [image.names for image in images] == [["docker.io/a/one:1", "docker.io/a/one:2"], ["docker.io/a/two:1"]]
    assert [list(tree_of(image.root)) for image in images] == [["one"], ["two"]]


def test_of_many_platforms_the_nodes_is_taken(tmp_path: Path) -> None:
    layout = Layout()
    children = [
        {**layout.add_image([tar_of([file("arm")])], platform=ARM64), "platform": ARM64},
        # What is for other platforms need not be in the archive.
        {"digest": digest_of(b"none"), "size": 4, "platform": {"os": "windows", "architecture": "amd64"}},
        {**layout.add_image([tar_of([file("amd")])]), "platform": AMD64},
        {**layout.add_json({"layers": []}), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    layout.name(layout.add_json({"manifests": children}), **{REF_NAME: NAME})
    assert tree_of(read(layout, tmp_path).root) == {"amd": b""}


@pytest.mark.parametrize("told", [True, False], ids=["by the index", "by the configuration"])
def test_an_image_for_other_machines_is_refused(tmp_path: Path, told: bool) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("arm")])], platform=ARM64)
    layout.name({**descriptor, "platform": ARM64} if told else descriptor, **{REF_NAME: NAME})
    with pytest.raises(BuildError, match=r"(?s)image.tar holds no image for linux/amd64.*--override-arch amd64"):
        read(layout, tmp_path)


def _chart(layout: Layout) -> dict[str, Any]:
    config = layout.add(b"no JSON", mediaType="application/vnd.cncf.helm.config.v1+json")
    return layout.add_json({"config": config, "layers": []}, mediaType=MANIFEST)


def test_what_lies_beside_an_image_is_left_out(tmp_path: Path) -> None:
    layout = layout_of([file("a")])
    layout.name(layout.add_image([tar_of([file("arm")])], platform=ARM64), **{REF_NAME: "docker.io/a/arm:1"})
    layout.name(layout.add_image([tar_of([file("s")])], platform={"os": "", "architecture": ""}), **{REF_NAME: "sha256-0.sig"})
    layout.name(_chart(layout))
    assert tree_of(read(layout, tmp_path).root) == {"a": b""}


def test_two_images_of_one_name_in_one_archive_are_refused(tmp_path: Path) -> None:
    layout = layout_of([file("a")])
    layout.name(layout.add_image([tar_of([file("b")])]), **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match=f"image.tar holds different images named {NAME}"):
        read(layout, tmp_path)


def test_what_holds_no_image_says_so(tmp_path: Path) -> None:
    layout = Layout()
    layout.name(_chart(layout), **{REF_NAME: NAME})
    layout.name(layout.add_image([], platform=ARM64), **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match=r"no image for linux/amd64.*\(found: what is no container image, linux/arm64\)"):
        read(layout, tmp_path)


@pytest.mark.parametrize("annotations", [None, {REF_NAME: None}, {REF_NAME: 5}, {REF_NAME: ["a"]}], ids=repr)
def test_annotations_that_hold_no_name_are_none(tmp_path: Path, annotations: object) -> None:
    layout = layout_of([file("a")])
    layout.index = [{**layout.index[0], "annotations": annotations}]
    with pytest.raises(ArchiveError, match=r"(?s)names its image .*, which is not a full name.*Name it: skopeo copy"):
        read(layout, tmp_path)


def test_what_an_archive_holds_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout()
    image = layout.add_image([tar_of([file("a")]), tar_of([file("b")])])
    index = layout.add_json({"manifests": [{**image, "platform": AMD64}]})
    layout.name(index, **{REF_NAME: NAME})
    layout.name(index, **{REF_NAME: "docker.io/emilyls/tinycat:v2"})
    path = layout.write(tmp_path / "image.tar")
    assert run(monkeypatch, "describe", path) == 0
    ((told,),) = [each["images"] for each in json.loads(capsys.readouterr().out)]
    assert (told["names"], told["digest"]) == ([NAME, "docker.io/emilyls/tinycat:v2"], index["digest"])
    assert (told["documents"], told["layers"], told["unpacked"]) == ([index["digest"], image["digest"]], 2, 20480)
    assert len(told["blobs"]) == 5
    for digest, (offset, size, _) in told["blobs"].items():
        assert digest_of(path.read_bytes()[offset:][:size]) == digest
    assert [told["blobs"][digest][2] for digest in told["documents"]] == ["application/vnd.oci.image.index.v1+json", MANIFEST]


def test_the_program_makes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    image = layout_of([file("a")], [file("b")])
    again = Layout()
    again.files, again.index = dict(image.files), []
    again.name({**image.index[0]}, **{REF_NAME: "docker.io/emilyls/tinycat:v2"})
    archives = [image.write(tmp_path / "one.tar"), again.write(tmp_path / "two.tar")]
    assert run(monkeypatch, "store", *archives, "--output", tmp_path / "store") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'store'}\n"
    (record,) = json.loads((tmp_path / "store/overlay-images/images.json").read_text())
    (layer,) = json.loads((tmp_path / "store/overlay-layers/layers.json").read_text())
    assert record["names"] == [NAME, "docker.io/emilyls/tinycat:v2"]
    assert record["layer"] == layer["id"]
    assert tree_of(tmp_path / "store/overlay" / layer["id"] / "diff") == {"a": b"", "b": b""}
    # Nobody else runs what is set-uid in it.
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar", "store", "two.tar"]
    assert run(monkeypatch, "store", *archives, "--output", tmp_path / "store") == 1
    assert "store is there already" in capsys.readouterr().err


def test_two_images_of_one_name_make_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archives = [layout_of([file(name)]).write(tmp_path / f"{name}.tar") for name in ("a", "b")]
    assert run(monkeypatch, "store", *archives, "--output", tmp_path / "store") == os.EX_DATAERR
    assert f"Two different images are named {NAME}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"]
