"""Layers of others' images: one over another, with nothing outside touched, and none without an end."""

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from images import archive, layers, storage
from images.errors import ArchiveError, BuildError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from tests.images.archive_layout import NAME, REF_NAME, RUN, Entry, Layout, entry, file, layout_of, link, read, tar_of, tree_of


def folder(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, link=target)


@pytest.mark.parametrize(
    ("below", "above", "left"),
    [
        ([file("a", b"old"), file("b")], [file("a", b"new")], {"a": b"new", "b": b""}),
        ([file("d/a"), file("d/b")], [file("d/.wh.a")], {"d": None, "d/b": b""}),
        ([file("d/a"), file("e")], [file(".wh.d")], {"e": b""}),
        ([file("d/a")], [file("d/b"), file("d/.wh..wh..opq")], {"d": None, "d/b": b""}),
        ([file("a", b"old")], [file("a", b"new"), file(".wh.a")], {"a": b"new"}),
        ([file("d/a")], [folder("d"), file("d/b")], {"d": None, "d/a": b"", "d/b": b""}),
        ([folder("usr"), link("lib", "usr")], [folder("lib"), file("lib/a")], {"usr": None, "lib": None, "lib/a": b""}),
        ([folder("usr"), link("lib", "usr")], [file("lib/a")], {"usr": None, "lib": None, "lib/a": b""}),
        ([file("d/a")], [file("d", b"file")], {"d": b"file"}),
        ([file("d/a")], [link("d", "/nowhere")], {"d": "/nowhere"}),
        ([link("a", "b"), file("b", b"kept")], [file("a", b"new")], {"a": b"new", "b": b"kept"}),
        ([file("b", b"old")], [file("a", b"new"), hard_link("b", "a")], {"a": b"new", "b": b"new"}),
        ([file("a")], [file("none/.wh.x"), file("a/.wh.x"), file(".wh.y")], {"a": b""}),
        ([file("/a"), file("./b")], [folder("./"), file("./c")], {"a": b"", "b": b"", "c": b""}),
        ([], [file("a")], {"a": b""}),
    ],
    ids=[
        "replaced",
        "deleted",
        "folder deleted",
        "emptied, but for its own",
        "deleted below, made above",
        "merged",
        "folder over link",
        "under a link below",
        "file over folder",
        "link over folder",
        "file over link",
        "hard link over file",
        "nothing to delete",
        "rooted names",
        "empty layer",
    ],
)
def test_layers_lie_over_each_other(
    tmp_path: Path, below: Sequence[Entry], above: Sequence[Entry], left: Mapping[str, bytes | str | None]
) -> None:
    assert tree_of(read(layout_of(below, above), tmp_path).root) == left


def test_several_layers_become_one_whose_image_runs_as_theirs(tmp_path: Path) -> None:
    long_name = "d" * 200 + "/" + "f" * 200
    layout = layout_of([file(long_name, b"x")], [link("l", "t" * 300), file("b")], pack=gzip.compress)
    built = read(layout, tmp_path)
    config, manifest = json.loads(built.config.data), json.loads(built.manifest.data)
    assert config["config"] == RUN
    assert (config["author"], config["os"], config["architecture"]) == ("me", "linux", "amd64")
    assert config["rootfs"] == {"type": "layers", "diff_ids": [built.layer.digest]}
    assert len(config["history"]) == 1
    assert manifest["config"]["digest"] == built.config.digest
    assert [layer["digest"] for layer in manifest["layers"]] == [built.layer.digest] == [built.packed.digest]
    with tarfile.open(fileobj=io.BytesIO(built.layer.data)) as tar:
        assert sorted(tar.getnames()) == sorted(tree_of(built.root)) == sorted(["b", "l", "d" * 200, long_name])
        assert tar.getmember("l").linkname == "t" * 300


def test_modes_are_kept_and_all_can_be_read(tmp_path: Path) -> None:
    layers = [file("suid", mode=0o4755), file("shadow", mode=0), folder("tmp", 0o1777), folder("shut", 0o500), file("made/x")]
    root = read(layout_of([*layers, folder("./", 0o711)]), tmp_path).root
    found = {name: (root / name).stat().st_mode & 0o7777 for name in ("suid", "shadow", "tmp", "shut", "made", ".")}
    assert found == {"suid": 0o4755, "shadow": 0o400, "tmp": 0o1777, "shut": 0o700, "made": 0o755, ".": 0o711}


def test_modes_do_not_come_from_who_unpacks_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        root = read(layout_of([file("made/a", mode=0o664)]), tmp_path).root
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o7777) for path in (root, root / "made", root / "made/a")] == ["0o755", "0o755", "0o664"]


def test_what_is_lost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capable = file("ping")
    capable[0].pax_headers = {"SCHILY.xattr.security.capability": "cap"}
    device = entry("dev/null", tarfile.CHRTYPE)
    tree = tree_of(read(layout_of([file("a", uid=7), file("b", uid=7)], [capable, device]), tmp_path).root)
    assert sorted(tree) == ["a", "b", "dev", "ping"]
    assert (
        f"{NAME}: not kept of its files: 1 devices, 1 extended attributes, 2 owners other than root" in capsys.readouterr().err
    )


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(layout_of([file("a")]), tmp_path)
    assert capsys.readouterr().err == ""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file, which no layer may reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_bytes(b"secret")
    return tmp_path / "outside"


@pytest.mark.parametrize(
    "above",
    [[file("out/new")], [file("out/.wh.kept")], [file("out/.wh..wh..opq")]],
    ids=["file", "whiteout", "opaque"],
)
def test_no_layer_changes_what_is_outside(tmp_path: Path, outside: Path, above: Sequence[Entry]) -> None:
    read(layout_of([link("out", str(outside))], above), tmp_path)
    assert tree_of(outside) == {"kept": b"secret"}


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "d/.wh...", "d/.wh..", "d/.wh."])
def test_a_whiteout_of_a_folder_or_the_one_above_is_refused(tmp_path: Path, outside: Path, name: str) -> None:
    with pytest.raises(BuildError, match="names nothing in a folder"):
        read(layout_of([file("d/a")], [file(name)]), tmp_path)
    assert tree_of(outside) == {"kept": b"secret"}


def test_no_layer_takes_what_is_outside(tmp_path: Path, outside: Path) -> None:
    with pytest.raises(BuildError, match="which it does not have"):
        read(layout_of([link("out", str(outside))], [hard_link("mine", "out/kept")]), tmp_path)


@pytest.mark.parametrize(
    "layer",
    [[file("../a")], [link("l", "/etc"), file("l/a")], [hard_link("a", "none")], [folder("d"), hard_link("a", "d")]],
    ids=["outside", "under a link of its own", "hard link to nothing", "hard link to a folder"],
)
def test_a_layer_that_cannot_be_is_refused(tmp_path: Path, layer: Sequence[Entry]) -> None:
    with pytest.raises(BuildError, match=r"image\.tar is no whole OCI archive: a layer has a"):
        read(layout_of(layer), tmp_path)


def test_a_layer_may_be_compressed_with_zstd(tmp_path: Path) -> None:
    built = read(layout_of([file("a", b"a" * 5000)], pack=zstd.compress), tmp_path)
    assert tree_of(built.root) == {"a": b"a" * 5000}
    storage.preload([built], tmp_path / "store")
    (layer,) = json.loads((tmp_path / "store/overlay-layers/layers.json").read_text())
    assert layer["compression"] == 4  # containers/storage, pkg/archive: Zstd


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_layer_that_no_node_unpacks_is_named(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BuildError, match=r"layer sha256:\w+ is compressed, with neither gzip nor zstd"):
        read(layout_of([file("a")], pack=pack), tmp_path)


def test_a_layer_without_a_byte_is_not_called_compressed(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as refused:
        read(layout_of([], pack=lambda _: b""), tmp_path)
    assert "compressed" not in str(refused.value)


def test_a_layer_of_several_gzip_members_is_one(tmp_path: Path) -> None:
    def pack(data: bytes) -> bytes:
        return gzip.compress(data[:700]) + gzip.compress(data[700:]) + gzip.compress(b"")

    layout = layout_of([file("a", b"a" * 5000)], pack=pack)
    assert tree_of(read(layout, tmp_path).root) == {"a": b"a" * 5000}
    (image,) = archive.describe(tmp_path / "image.tar")["images"]
    assert image["unpacked"] == 10240


def test_what_unpacks_to_too_much_is_told_and_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (archive, layers):
        monkeypatch.setattr(module, "MOST_UNPACKED", 4 << 20)
    layout = layout_of([file("a", bytes(5 << 20))], pack=gzip.compress)
    with pytest.raises(ArchiveError, match=r"image\.tar has an image that unpacks to more than 4 MiB"):
        read(layout, tmp_path)
    (image,) = archive.describe(tmp_path / "image.tar")["images"]
    assert image["unpacked"] is None


def test_a_sparse_file_of_terabytes_is_refused(tmp_path: Path) -> None:
    sparse = entry("a", tarfile.REGTYPE)
    sparse[0].pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(1 << 45), "GNU.sparse.map": "0,0"}
    with pytest.raises(ArchiveError, match="a layer has more than 2048 MiB of files"):
        read(layout_of([sparse]), tmp_path)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (file("d/" * 200 + "a"), "lies more than 100 folders deep"),
        (file("n" * 300), "a layer has a file that cannot be made: .*File name too long"),
        (link("a", ""), "a layer has a file that cannot be made"),
        (link("a", "t" * 5000), "a layer has a file that cannot be made: .*File name too long"),
    ],
    ids=["deep", "long name", "link to nothing", "long link"],
)
def test_a_file_that_no_system_has_is_refused(tmp_path: Path, made: Entry, says: str) -> None:
    with pytest.raises(ArchiveError, match=says):
        read(layout_of([made]), tmp_path)


def with_negative_length(data: bytes) -> bytes:
    """The tar with the length of its first entry below zero (base 256)."""
    header = bytearray(data[:512])
    header[124:136] = (-512).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def test_a_length_below_zero_is_no_endless_tar(tmp_path: Path) -> None:
    path = layout_of([file("a")]).write(tmp_path / "image.tar")
    path.write_bytes(with_negative_length(path.read_bytes()))
    with pytest.raises(ArchiveError, match="negative"):
        archive.describe(path)
    layout = Layout()
    layout.name(layout.add_image([with_negative_length(tar_of([file("a")]))]), **{REF_NAME: NAME})
    with pytest.raises(ArchiveError, match="negative"):
        read(layout, tmp_path)
