"""Archives that are none, damaged, or of any bytes: refused with words that help."""

import contextlib
import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import archive, layers
from images.errors import ArchiveError, BuildError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from tests.images.archive_layout import (
    AMD64,
    ARM64,
    NAME,
    REF_NAME,
    Layout,
    digest_of,
    file,
    layout_of,
    link,
    read,
    run,
    tar_of,
)


def change_blob(layout: Layout) -> None:
    name = max(layout.files, key=lambda name: len(layout.files[name]))
    layout.files[name] = layout.files[name][:-1] + b"!"


def lose_blob(layout: Layout) -> None:
    del layout.files["blobs/" + layout.index[0]["digest"].replace(":", "/")]


def misname_layers(layout: Layout) -> None:
    layout.index.clear()
    layout.name(layout.add_image([tar_of([file("a")])], diff_ids=[digest_of(b"other")]), **{REF_NAME: NAME})


def lie_about_size(layout: Layout) -> None:
    layout.index[0] = {**layout.index[0], "size": 7}


def break_gzip(layout: Layout) -> None:
    layout.index.clear()
    layout.name(layout.add_image([tar_of([file("a", b"abc" * 999)])], lambda data: gzip.compress(data)[:-20]))


def set_index(content: bytes) -> Callable[[Layout], None]:
    return lambda layout: layout.files.update({"index.json": content})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change_blob, "the content of blob sha256:.* has another digest"),
        (lie_about_size, "the content of blob sha256:.* has another digest or size"),
        (lose_blob, "blobs/sha256/.* is missing"),
        (misname_layers, "are not those that its configuration names"),
        (break_gzip, "cannot be unpacked"),
        (set_index(b"{"), "index.json is no JSON: "),
        (set_index(b"\xff"), "index.json is no JSON: "),
        (set_index(b"[" * 100_000), "index.json is no JSON: maximum recursion"),
        (set_index(b"[]"), "index.json is no JSON object"),
        (set_index(b"{}"), "index.json has no manifests that is a list"),
        (set_index(b'{"manifests": null}'), "index.json has no manifests that is a list"),
        (set_index(b'{"manifests": ["x"]}'), "index.json has something in its manifests that is not an object"),
        (set_index(b'{"manifests": [{"size": 1}]}'), "a descriptor has no digest that is a text"),
        (set_index(b'{"manifests": [{"digest": "sha512:00", "size": 1}]}'), "'sha512:00' is no sha256 digest"),
        (set_index(b'{"manifests": [{"platform": 5}]}'), "a descriptor has no platform that is an object"),
        (set_index(b" " * (5 << 20)), "index.json has 5242880 bytes, which no index has"),
        (lambda layout: layout.index.clear(), "no image for linux/amd64"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, damage: Callable[[Layout], None], says: str) -> None:
    layout = layout_of([file("a", b"a" * 5000)])
    damage(layout)
    for descriptor in layout.index:
        assert isinstance(descriptor, dict)
        descriptor["annotations"] = {REF_NAME: NAME}
    with pytest.raises(BuildError, match=rf"(?s){tmp_path}/image.tar .*{says}.*skopeo"):
        read(layout, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no tar" * 999, gzip.compress(tar_of([file("index.json", b"{}")]))])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(BuildError, match=f"{tmp_path}/image.tar is no whole OCI archive"):
        layers.read(tmp_path / "image.tar", tmp_path / "work")


def test_half_an_archive_is_named(tmp_path: Path) -> None:
    path = layout_of([file("a", os.urandom(50000))]).write(tmp_path / "image.tar")
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(BuildError, match=r"image\.tar is no whole OCI archive"):
        layers.read(path, tmp_path / "work")


def test_indexes_in_each_other_have_an_end(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("a")])])
    for _ in range(9):
        descriptor = layout.add_json({"manifests": [descriptor]})
    layout.name(descriptor, **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match="more than 8 indexes lie in each other"):
        read(layout, tmp_path)


def test_indexes_that_list_others_many_times_are_read_once(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("a")])], platform=ARM64)
    for _ in range(7):
        descriptor = layout.add_json({"manifests": [{**descriptor, "platform": None}] * 1000})
    layout.name(descriptor, **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match="no image for linux/amd64"):
        read(layout, tmp_path)


def test_an_index_that_lists_itself_is_no_endless_one(tmp_path: Path) -> None:
    layout = Layout()
    digest = digest_of(b"?")
    content = json.dumps({"manifests": [{"digest": digest, "size": 200}]}).encode().ljust(200)
    layout.files["blobs/" + digest.replace(":", "/")] = content
    layout.name({"digest": digest, "size": 200}, **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match="has another digest or size"):
        read(layout, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"x"), "Unpack it: gunzip"),
        (zstd.compress(b"x"), "Unpack it: unzstd"),
        (tar_of([file("manifest.json", b"[]")]), "skopeo copy docker-archive:"),
    ],
    ids=["gzip", "zstd", "docker"],
)
def test_a_near_miss_is_told_how_to_become_an_archive(
    tmp_path: Path, content: bytes, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    assert run(monkeypatch, "describe", tmp_path / "image.tar") == os.EX_DATAERR
    assert says in capsys.readouterr().err


def test_a_folder_is_told_how_to_become_an_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is no file"):
        archive.describe(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ArchiveError, match=r"is a folder\.\n  Pack it: tar -C "):
        archive.describe(tmp_path)


_WHOLE = tar_of([file(f"{name}", name.encode() * 99) for name in "abc"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([bytes, gzip.compress, zstd.compress]),
    st.lists(st.tuples(st.integers(0, 20_000), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(-20_000, 0),
)
def test_any_archive_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory,
    pack: Callable[[bytes], bytes],
    pokes: Sequence[tuple[int, bytes]],
    cut: int,
) -> None:
    place = tmp_path_factory.mktemp("any")
    layout = Layout()
    image = layout.add_image([_WHOLE, tar_of([file(".wh.a"), link("l", "b")])], pack)
    layout.name(layout.add_json({"manifests": [{**image, "platform": AMD64}]}), **{REF_NAME: NAME})
    content = bytearray(layout.write(place / "image.tar").read_bytes())
    for at, poke in pokes:
        content[at : at + len(poke)] = poke
    (place / "image.tar").write_bytes(content[: cut or None])
    for reader in (archive.describe, lambda path: layers.read(path, place / "work")):
        with contextlib.suppress(ArchiveError):
            reader(place / "image.tar")
    shutil.rmtree(place)


_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(NAME), st.just(digest_of(b""))
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["manifests", "annotations", REF_NAME, "digest", "size", "platform", "os", "config", "layers", "rootfs"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["index", "manifest", "config"]), _JSON, st.sampled_from(["manifests", "layers", "config", "rootfs", ""])
)
def test_any_description_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, which: str, value: Any, at: str
) -> None:
    place = tmp_path_factory.mktemp("any")
    layout = Layout()

    def spoiled(whole: dict[str, Any]) -> Any:
        return {**whole, at: value} if at else value

    config = {**AMD64, "rootfs": {"diff_ids": [digest_of(_WHOLE)]}}
    told = layout.add_json(spoiled(config) if which == "config" else config)
    manifest = {"config": told, "layers": [layout.add(_WHOLE)]}
    top = layout.add_json(spoiled(manifest) if which == "manifest" else manifest)
    index = {"manifests": [{**top, "annotations": {REF_NAME: NAME}}]}
    layout.files["index.json"] = json.dumps(spoiled(index) if which == "index" else index).encode()
    layout.write(place / "image.tar")
    for reader in (archive.describe, lambda path: layers.read(path, place / "work")):
        with contextlib.suppress(ArchiveError):
            reader(place / "image.tar")
    shutil.rmtree(place)
