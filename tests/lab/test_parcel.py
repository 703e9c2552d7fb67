"""A bundle's file: what is packed comes out, and what nobody here packed does not come in."""

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from harness.errors import HarnessError, InputError
from harness.lab import parcel
from harness.lab.parcel import DOCUMENT, TooLargeError

_LIMIT = 1 << 30


def _file(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def _crafted(file: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A parcel by somebody else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    file.write_bytes(zstd.compress(packed.getvalue()))
    return file


def _document(files: object) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(DOCUMENT), json.dumps({"files": files, "told": {}}).encode()


def _link(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry


def test_what_is_packed_comes_out_for_its_user_alone(tmp_path: Path) -> None:
    contents = {"state": b"x" * 3_000_001, "artifacts/boot-1/console.log": b"", "odd": b"y" * 512}
    files = {name: _file(tmp_path, name.rpartition("/")[2], content) for name, content in contents.items()}
    packed = tmp_path / "FAIL.tar.zst"
    parcel.pack(packed, {"sentence": "it failed"}, files, _LIMIT)
    assert parcel.unpack(packed, tmp_path / "out") == {"sentence": "it failed"}
    assert {name: (tmp_path / "out" / name).read_bytes() for name in contents} == contents
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (packed, tmp_path / "out/state")}
    assert modes == {0o600}
    with zstd.ZstdFile(packed) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        assert [member.name for member in tar] == [DOCUMENT, *contents], "tar cannot read it"


def test_beyond_its_limit_nothing_is_left(tmp_path: Path) -> None:
    noise = _file(tmp_path, "noise", os.urandom(1 << 20))
    with pytest.raises(TooLargeError, match="it takes more than the 0 MiB that are left for it"):
        parcel.pack(tmp_path / "FAIL.tar.zst", {}, {"noise": noise}, 100_000)
    assert list(tmp_path.iterdir()) == [noise]


def test_a_full_disk_leaves_nothing(small_disk: Path, tmp_path: Path) -> None:
    noise = _file(tmp_path, "noise", b"z" * 1000)
    with pytest.raises(HarnessError, match="MiB are free there"):
        parcel.pack(small_disk / "FAIL.tar.zst", {}, {"noise": noise}, _LIMIT)
    assert list(small_disk.iterdir()) == []


def test_a_name_that_no_parcel_has_is_left_out(tmp_path: Path) -> None:
    some = _file(tmp_path, "some", b"")
    parcel.pack(tmp_path / "p", {}, {"some": some, "x" * 101: some, "a b": some}, _LIMIT)
    parcel.unpack(tmp_path / "p", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["some"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("../out", {"../out": 1}),
        ("/etc/x", {"/etc/x": 1}),
        ("a/../../b", {"a/../../b": 1}),
        (".hidden", {".hidden": 1}),
        ("a", {"a": -1}),
        ("a", {"a": 1 << 50}),
        ("a", {"a": True}),
        ("a", {"a": 2}),
        ("a", {"b": 1}),
        ("a", [["a", 1]]),
        (DOCUMENT, {DOCUMENT: 1}),
        ("a", {f"f{number}": 0 for number in range(10_001)}),
    ],
)
def test_a_file_that_may_not_be_in_it_is_refused(tmp_path: Path, name: str, files: object) -> None:
    crafted = _crafted(tmp_path / "p", [_document(files), (tarfile.TarInfo(name), b"x")])
    with pytest.raises(InputError, match="no bundle of a failed node, or is damaged"):
        parcel.unpack(crafted, tmp_path / "out")
    assert {file.name for file in tmp_path.iterdir()} == {"out", "p"}
    assert not (tmp_path / "out/.hidden").exists()


@pytest.mark.parametrize("entry", [_link("a"), _link(DOCUMENT), tarfile.TarInfo("x" * 200)])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    first = [] if entry.name == DOCUMENT else [_document({entry.name[:100]: 0})]
    with pytest.raises(InputError):
        parcel.unpack(_crafted(tmp_path / "p", [*first, (entry, b"")]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:200] + bytes([packed[200] ^ 1]) + packed[201:],
        lambda _: b"",
        lambda _: b"no zstd",
        lambda _: zstd.compress(b"no tar" * 1000),
        lambda _: zstd.compress(tarfile.TarInfo(DOCUMENT).tobuf(tarfile.USTAR_FORMAT)),
    ],
)
def test_a_damaged_one_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    noise = _file(tmp_path, "noise", os.urandom(4096))
    parcel.pack(tmp_path / "p", {}, {"noise": noise}, _LIMIT)
    (tmp_path / "p").write_bytes(damage((tmp_path / "p").read_bytes()))
    with pytest.raises(InputError, match="no bundle of a failed node, or is damaged"):
        parcel.unpack(tmp_path / "p", tmp_path / "out")


def test_json_that_is_deeper_than_python_is_refused(tmp_path: Path) -> None:
    crafted = _crafted(tmp_path / "p", [(tarfile.TarInfo(DOCUMENT), b"[" * 100_000)])
    with pytest.raises(InputError):
        parcel.unpack(crafted, tmp_path / "out")


def test_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        parcel.unpack(tmp_path / "p", tmp_path / "out")


def test_more_than_the_disk_takes_is_told_before(small_disk: Path, tmp_path: Path) -> None:
    crafted = _crafted(tmp_path / "p", [_document({"a": 60 << 30})])
    with pytest.raises(HarnessError, match=r"p, unpacked, takes .* MiB are free there"):
        parcel.unpack(crafted, small_disk / "out")
