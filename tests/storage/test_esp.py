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
    return SimpleNamespace(
        path=file, esp=SimpleNamespace(first=_FIRST, sectors=2048), table=SimpleNamespace(sector_size=_SECTOR)
    )


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


def test_an_image_that_cannot_be_read_is_told_nothing_of(tmp_path: Path) -> None:
    there = image(tmp_path, b"MZ")
    there.path.write_bytes(b"x" * (1 << 20))
    assert esp.why_nothing_starts(there) == ""
    there.path.unlink()
    assert esp.why_nothing_starts(there) == ""
