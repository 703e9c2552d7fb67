"""OCI archives of others, made here entry by entry: read whole, or refused with words that help."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import __main__ as program
from images import archive, layers, oci, storage
from images.errors import ArchiveError, BuildError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_NAME = "docker.io/emilyls/tinycat:v1"
_REF_NAME = "org.opencontainers.image.ref.name"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_AMD64 = {"os": "linux", "architecture": "amd64"}
_ARM64 = {"os": "linux", "architecture": "arm64"}
_RUN = {"Entrypoint": ["/bin/a"], "Cmd": ["-v"], "Env": ["A=b"], "User": "7:7", "WorkingDir": "/work"}

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes, mode: int = 0o755, content: bytes = b"", link: str = "", uid: int = 0) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname, info.uid = kind, mode, len(content), link, uid
    return info, content


def file(name: str, content: bytes = b"", mode: int = 0o644, uid: int = 0) -> Entry:
    return entry(name, tarfile.REGTYPE, mode, content, uid=uid)


def folder(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode)


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, link=target)


def tar_of(entries: Sequence[Entry]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """The files of an OCI layout in the making."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.index: list[Mapping[str, Any]] = []

    def add(self, data: bytes, **more: Any) -> dict[str, Any]:
        """Adds a blob; returns its descriptor."""
        self.files["blobs/" + digest_of(data).replace(":", "/")] = data
        return {"digest": digest_of(data), "size": len(data), **more}

    def add_json(self, value: object, **more: Any) -> dict[str, Any]:
        return self.add(json.dumps(value).encode(), **more)

    def add_image(
        self,
        layers: Sequence[bytes],
        pack: Callable[[bytes], bytes] = bytes,
        platform: Mapping[str, str] = _AMD64,
        diff_ids: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Adds an image; returns its manifest's descriptor."""
        found = [digest_of(layer) for layer in layers] if diff_ids is None else diff_ids
        config = {**platform, "author": "me", "config": _RUN, "rootfs": {"type": "layers", "diff_ids": found}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self.add_json({**config, "history": [{"comment": "theirs"}]}, mediaType=_CONFIG),
            "layers": [self.add(pack(layer), mediaType=_LAYER) for layer in layers],
        }
        return self.add_json(manifest, mediaType=_MANIFEST)

    def name(self, descriptor: Mapping[str, Any], **annotations: str) -> None:
        self.index.append({**descriptor, "annotations": annotations})

    def write(self, path: Path) -> Path:
        self.files.setdefault("index.json", json.dumps({"schemaVersion": 2, "manifests": self.index}).encode())
        path.write_bytes(tar_of([file(name, data) for name, data in self.files.items()]))
        return path


def layout_of(*layers: Sequence[Entry], pack: Callable[[bytes], bytes] = bytes) -> Layout:
    """A layout of one image of these layers."""
    layout = Layout()
    layout.name(layout.add_image([tar_of(layer) for layer in layers], pack), **{_REF_NAME: _NAME})
    return layout


def read(layout: Layout, place: Path) -> oci.Built:
    """The only image of a layout, read from an archive of it."""
    (built,) = layers.read(layout.write(place / "image.tar"), place / "work")
    return built


def tree_of(root: Path) -> dict[str, bytes | str | None]:
    """Content of files, target of links, None for folders; by path."""
    paths = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return {
        name: str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        for name, path in paths.items()
    }


def test_an_archive_of_ours_reads_back_as_what_was_built(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/a").write_bytes(b"\x7fELF")
    (root / "bin/b").symlink_to("a")
    built = oci.build(oci.Image(_NAME, ["/bin/a"]), root)
    oci.write_archive(built, tmp_path / "image.tar")
    (back,) = layers.read(tmp_path / "image.tar", tmp_path / "work")
    assert (back.names, back.layer, back.packed) == ([_NAME], built.layer, built.layer)
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
    assert config["config"] == _RUN
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
        f"{_NAME}: not kept of its files: 1 devices, 1 extended attributes, 2 owners other than root" in capsys.readouterr().err
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
    ("annotations", "name"),
    [
        ({_REF_NAME: "registry.k8s.io/pause:3.6"}, "registry.k8s.io/pause:3.6"),
        ({_REF_NAME: "v1", "io.containerd.image.name": _NAME}, _NAME),
        ({_REF_NAME: "docker.io/busybox:1"}, "docker.io/library/busybox:1"),
        ({_REF_NAME: "localhost/kios-e2e/console:v1"}, "localhost/kios-e2e/console:v1"),
        ({_REF_NAME: "host:5000/a/b:v1"}, "host:5000/a/b:v1"),
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
    layout.name(layout.add_image([tar_of([file("a")])]), **({_REF_NAME: name} if name else {}))
    with pytest.raises(BuildError, match=rf"(?s)image.tar names its image '{name}'.*skopeo copy oci-archive:.*HOST/PATH:TAG"):
        read(layout, tmp_path)


def test_an_archive_can_hold_several_images_and_an_image_several_names(tmp_path: Path) -> None:
    layout = Layout()
    one, two = layout.add_image([tar_of([file("one")])]), layout.add_image([tar_of([file("two")])])
    for descriptor, name in ((one, "docker.io/a/one:1"), (two, "docker.io/a/two:1"), (one, "docker.io/a/one:2")):
        layout.name(descriptor, **{_REF_NAME: name})
    images = layers.read(layout.write(tmp_path / "image.tar"), tmp_path / "work")
    assert [image.names for image in images] == [["docker.io/a/one:1", "docker.io/a/one:2"], ["docker.io/a/two:1"]]
    assert [list(tree_of(image.root)) for image in images] == [["one"], ["two"]]


def test_of_many_platforms_the_nodes_is_taken(tmp_path: Path) -> None:
    layout = Layout()
    children = [
        {**layout.add_image([tar_of([file("arm")])], platform=_ARM64), "platform": _ARM64},
        # What is for other platforms need not be in the archive.
        {"digest": digest_of(b"none"), "size": 4, "platform": {"os": "windows", "architecture": "amd64"}},
        {**layout.add_image([tar_of([file("amd")])]), "platform": _AMD64},
        {**layout.add_json({"layers": []}), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    layout.name(layout.add_json({"manifests": children}), **{_REF_NAME: _NAME})
    assert tree_of(read(layout, tmp_path).root) == {"amd": b""}


@pytest.mark.parametrize("told", [True, False], ids=["by the index", "by the configuration"])
def test_an_image_for_other_machines_is_refused(tmp_path: Path, told: bool) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("arm")])], platform=_ARM64)
    layout.name({**descriptor, "platform": _ARM64} if told else descriptor, **{_REF_NAME: _NAME})
    with pytest.raises(BuildError, match=r"(?s)image.tar holds no image for linux/amd64.*--override-arch amd64"):
        read(layout, tmp_path)


def change_blob(layout: Layout) -> None:
    name = max(layout.files, key=lambda name: len(layout.files[name]))
    layout.files[name] = layout.files[name][:-1] + b"!"


def lose_blob(layout: Layout) -> None:
    del layout.files["blobs/" + layout.index[0]["digest"].replace(":", "/")]


def misname_layers(layout: Layout) -> None:
    layout.index.clear()
    layout.name(layout.add_image([tar_of([file("a")])], diff_ids=[digest_of(b"other")]), **{_REF_NAME: _NAME})


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
        descriptor["annotations"] = {_REF_NAME: _NAME}
    with pytest.raises(BuildError, match=rf"(?s){tmp_path}/image.tar .*{says}.*skopeo"):
        read(layout, tmp_path)


@pytest.mark.parametrize(
    "layer",
    [[file("../a")], [link("l", "/etc"), file("l/a")], [hard_link("a", "none")], [folder("d"), hard_link("a", "d")]],
    ids=["outside", "under a link of its own", "hard link to nothing", "hard link to a folder"],
)
def test_a_layer_that_cannot_be_is_refused(tmp_path: Path, layer: Sequence[Entry]) -> None:
    with pytest.raises(BuildError, match=r"image\.tar is no whole OCI archive: a layer has a"):
        read(layout_of(layer), tmp_path)


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


def test_a_layer_may_be_compressed_with_zstd(tmp_path: Path) -> None:
    built = read(layout_of([file("a", b"a" * 5000)], pack=zstd.compress), tmp_path)
    assert tree_of(built.root) == {"a": b"a" * 5000}
    storage.preload([built], tmp_path / "store")
    (layer,) = json.loads((tmp_path / "store/overlay-layers/layers.json").read_text())
    assert layer["compression"] == 4  # containers/storage, pkg/archive: Zstd


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
    layout.name(layout.add_image([with_negative_length(tar_of([file("a")]))]), **{_REF_NAME: _NAME})
    with pytest.raises(ArchiveError, match="negative"):
        read(layout, tmp_path)


def test_indexes_in_each_other_have_an_end(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("a")])])
    for _ in range(9):
        descriptor = layout.add_json({"manifests": [descriptor]})
    layout.name(descriptor, **{_REF_NAME: _NAME})
    with pytest.raises(ArchiveError, match="more than 8 indexes lie in each other"):
        read(layout, tmp_path)


def test_indexes_that_list_others_many_times_are_read_once(tmp_path: Path) -> None:
    layout = Layout()
    descriptor = layout.add_image([tar_of([file("a")])], platform=_ARM64)
    for _ in range(7):
        descriptor = layout.add_json({"manifests": [{**descriptor, "platform": None}] * 1000})
    layout.name(descriptor, **{_REF_NAME: _NAME})
    with pytest.raises(ArchiveError, match="no image for linux/amd64"):
        read(layout, tmp_path)


def test_an_index_that_lists_itself_is_no_endless_one(tmp_path: Path) -> None:
    layout = Layout()
    digest = digest_of(b"?")
    content = json.dumps({"manifests": [{"digest": digest, "size": 200}]}).encode().ljust(200)
    layout.files["blobs/" + digest.replace(":", "/")] = content
    layout.name({"digest": digest, "size": 200}, **{_REF_NAME: _NAME})
    with pytest.raises(ArchiveError, match="has another digest or size"):
        read(layout, tmp_path)


@pytest.mark.parametrize("annotations", [None, {_REF_NAME: None}, {_REF_NAME: 5}, {_REF_NAME: ["a"]}], ids=repr)
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
    index = layout.add_json({"manifests": [{**image, "platform": _AMD64}]})
    layout.name(index, **{_REF_NAME: _NAME})
    layout.name(index, **{_REF_NAME: "docker.io/emilyls/tinycat:v2"})
    path = layout.write(tmp_path / "image.tar")
    assert run(monkeypatch, "describe", path) == 0
    ((told,),) = [each["images"] for each in json.loads(capsys.readouterr().out)]
    assert (told["names"], told["digest"]) == ([_NAME, "docker.io/emilyls/tinycat:v2"], index["digest"])
    assert (told["documents"], told["layers"], told["unpacked"]) == ([index["digest"], image["digest"]], 2, 20480)
    assert len(told["blobs"]) == 5
    for digest, (offset, size, _) in told["blobs"].items():
        assert digest_of(path.read_bytes()[offset:][:size]) == digest
    assert [told["blobs"][digest][2] for digest in told["documents"]] == ["application/vnd.oci.image.index.v1+json", _MANIFEST]


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
    layout.name(layout.add_json({"manifests": [{**image, "platform": _AMD64}]}), **{_REF_NAME: _NAME})
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
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just(_NAME), st.just(digest_of(b""))
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["manifests", "annotations", _REF_NAME, "digest", "size", "platform", "os", "config", "layers", "rootfs"]
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

    config = {**_AMD64, "rootfs": {"diff_ids": [digest_of(_WHOLE)]}}
    told = layout.add_json(spoiled(config) if which == "config" else config)
    manifest = {"config": told, "layers": [layout.add(_WHOLE)]}
    top = layout.add_json(spoiled(manifest) if which == "manifest" else manifest)
    index = {"manifests": [{**top, "annotations": {_REF_NAME: _NAME}}]}
    layout.files["index.json"] = json.dumps(spoiled(index) if which == "index" else index).encode()
    layout.write(place / "image.tar")
    for reader in (archive.describe, lambda path: layers.read(path, place / "work")):
        with contextlib.suppress(ArchiveError):
            reader(place / "image.tar")
    shutil.rmtree(place)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["images", *map(str, arguments)])
    return program.main()


def test_the_program_makes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    image = layout_of([file("a")], [file("b")])
    again = Layout()
    again.files, again.index = dict(image.files), []
    again.name({**image.index[0]}, **{_REF_NAME: "docker.io/emilyls/tinycat:v2"})
    archives = [image.write(tmp_path / "one.tar"), again.write(tmp_path / "two.tar")]
    assert run(monkeypatch, "store", *archives, "--output", tmp_path / "store") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'store'}\n"
    (record,) = json.loads((tmp_path / "store/overlay-images/images.json").read_text())
    (layer,) = json.loads((tmp_path / "store/overlay-layers/layers.json").read_text())
    assert record["names"] == [_NAME, "docker.io/emilyls/tinycat:v2"]
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
    assert f"Two different images are named {_NAME}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"]
