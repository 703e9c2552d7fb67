"""Compressed images: unpacked once and whole, and stopped where they have no end or no room."""

import gzip
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import space
from harness.errors import HarnessError, InputError
from harness.lab import brought as brought_image
from harness.lab import compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from tests.lab.small_images import ESP, MIB, digest, make_disk

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstd.compress}


@pytest.fixture(params=_COMPRESS)
def compressed(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Path:
    """The raw disk, compressed."""
    file = tmp_path / f"kios.img.{request.param}"
    file.write_bytes(_COMPRESS[request.param](made.read_bytes()))
    return file


def test_a_compressed_image_is_unpacked_in_the_cache_once(compressed: Path, made: Path, tmp_path: Path) -> None:
    brought_image.check_file(compressed)
    brought = brought_image.of_file(compressed, tmp_path / "cache")
    assert brought.digests == {compressed.name: digest(compressed)}
    assert brought.disk.path.read_bytes() == made.read_bytes()
    assert brought.disk.path.parent == tmp_path / "cache/images"
    # Its zeros are holes.
    assert brought.disk.path.stat().st_blocks * 512 < made.stat().st_size
    first = brought.disk.path.stat().st_ino
    assert brought_image.of_file(compressed, tmp_path / "cache").disk.path.stat().st_ino == first


def test_a_compressed_image_of_several_members_is_whole(made: Path, tmp_path: Path) -> None:
    content = made.read_bytes()
    (tmp_path / "kios.img.gz").write_bytes(gzip.compress(content[:MIB]) + gzip.compress(content[MIB:]))
    assert brought_image.of_file(tmp_path / "kios.img.gz", tmp_path / "cache").disk.path.read_bytes() == content


@pytest.mark.parametrize("left", [0.3, 0.999])
def test_a_truncated_compressed_image_is_called_so(compressed: Path, tmp_path: Path, left: float) -> None:
    os.truncate(compressed, int(compressed.stat().st_size * left))
    with pytest.raises(InputError, match=rf"{compressed.name} is truncated: it ends before .* Copy it again"):
        brought_image.of_file(compressed, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.img*.making"))


def test_a_damaged_compressed_image_is_called_so(compressed: Path, tmp_path: Path) -> None:
    with compressed.open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"damaged damaged")
    with pytest.raises(InputError, match=rf"{compressed.name} is (damaged|truncated).* Copy it again, or unpack it by hand"):
        brought_image.of_file(compressed, tmp_path / "cache")


def test_what_is_compressed_and_no_raw_disk_is_refused_before_it_is_unpacked(qcow2: Path, tmp_path: Path) -> None:
    file = tmp_path / "kios.gz"
    for content, says in (
        (qcow2.read_bytes(), r"kios\.gz holds a file that is qcow2: unpack it"),
        (b"text" * 4096, r"kios\.gz holds no GPT disk image"),
        (b"", r"kios\.gz holds no GPT disk image"),
    ):
        file.write_bytes(gzip.compress(content))
        with pytest.raises(InputError, match=says):
            brought_image.check_file(file)


def test_a_compressed_image_that_no_node_is_made_of_is_known_by_its_name(tmp_path: Path) -> None:
    other = make_disk(tmp_path / "b.img", ESP)
    (tmp_path / "b.img.gz").write_bytes(gzip.compress(other.read_bytes()))
    with pytest.raises(InputError, match=rf"^{tmp_path}/b\.img\.gz has no data partition"):
        brought_image.of_file(tmp_path / "b.img.gz", tmp_path / "cache")


def test_what_unpacks_without_end_is_stopped(compressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_MOST", 4 * MIB)
    with pytest.raises(InputError, match="unpacks to more than 0 GiB"):
        brought_image.of_file(compressed, tmp_path / "cache")


def test_an_image_that_has_no_room_unpacked_is_told_before_the_disk_is_full(
    compressed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free", lambda _: 200 * MIB)
    with pytest.raises(HarnessError, match=rf"{compressed.name}, unpacked, takes .* MiB in .*: make room"):
        brought_image.of_file(compressed, tmp_path / "cache")
