"""What a firmware finds on an ESP, told by what it lacks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import tools
from harness.storage import esp

_FIRST, _SECTOR = 8, 512


def image(folder: Path, loader: bytes | None) -> Any:
    """A disk that is an ESP behind some sectors, with a loader or none."""
    file = folder / "disk.img"
    file.write_bytes(bytes(2 << 20))
    place = f"{file}@@{_FIRST * _SECTOR}"
    tools.run("mformat", "-i", place, "-T", "2048", "::")
    tools.run("mmd", "-i", place, "::EFI", "::EFI/Boot")
    if loader is not None:
        (folder / "loader").write_bytes(loader)
        tools.run("mcopy", "-i", place, folder / "loader", "::EFI/Boot/BOOTX64.EFI")
    return SimpleNamespace(path=file, esp=None, extent=lambda _: (_FIRST * _SECTOR, 2048 * _SECTOR))


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (None, "the disk's ESP has no EFI/Boot/Bootx64.efi"),
        (b"#!/bin/sh\n", "the disk's EFI/Boot/Bootx64.efi is no EFI binary: it does not begin with MZ"),
        (b"", "the disk's EFI/Boot/Bootx64.efi is no EFI binary: it does not begin with MZ"),
        (b"MZ" + bytes(100), ""),
    ],
)
def test_what_a_firmware_lacks_is_told(loader: bytes | None, words: str, tmp_path: Path) -> None:
    assert esp.why_nothing_starts(image(tmp_path, loader)) == words


@pytest.mark.parametrize("name", ["a1.conf", "a[1].conf", "gr\u00fc\u00dfe.conf", "a very long name with spaces.conf"])
def test_a_file_is_read_by_the_name_by_which_it_is_listed(name: str, tmp_path: Path) -> None:
    there = image(tmp_path, b"MZ")
    for number, each in enumerate(("a1.conf", "A[1]B.conf", name)):
        (tmp_path / "file").write_bytes(b"%d %s" % (number, each.encode()))
        tools.run("mcopy", "-o", "-i", f"{there.path}@@{_FIRST * _SECTOR}", tmp_path / "file", f"::{each}")
    assert name in esp.files(there)
    assert esp.read(there, name).endswith(name.encode())
    assert esp.head(there, name, 3) == esp.read(there, name)[:3]


def test_a_filesystem_without_a_geometry_is_read(tmp_path: Path) -> None:
    """Sectors of a track and heads are 0, as some programs leave them: nothing but BIOS ever asked for them."""
    there = image(tmp_path, b"MZ" + bytes(100))
    disk = bytearray(there.path.read_bytes())
    disk[_FIRST * _SECTOR + 24 : _FIRST * _SECTOR + 28] = bytes(4)
    there.path.write_bytes(disk)
    assert esp.loader(there).startswith(b"MZ")


def test_an_image_that_cannot_be_read_is_told_nothing_of(tmp_path: Path) -> None:
    there = image(tmp_path, b"MZ")
    there.path.write_bytes(b"x" * (1 << 20))
    assert esp.why_nothing_starts(there) == ""
    there.path.unlink()
    assert esp.why_nothing_starts(there) == ""
