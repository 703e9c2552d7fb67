"""A unified kernel image in the place of kiOS's EFI binary: taken apart, as its stub hands over nothing but what it carries.

The stub gives its initramfs by a media GUID, which goes before load options (kernel, Documentation/admin-guide/efi-stub.rst):
a node could be given nothing beside it. So its parts are booted by the harness's own boot entry.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import DamagedImageError, InputError
from harness.lab import cache as store
from harness.lab import digest
from harness.storage import unified
from harness.storage.unified import INITRAMFS, KERNEL, PROFILE, WORDS, Section


@dataclass(frozen=True)
class Parts:
    """Files with its kernel and its initramfs, and the words that it has for the kernel."""

    kernel: Path
    initramfs: Path
    words: tuple[str, ...]


def is_one(efi: Path) -> bool:
    """Whether an EFI binary is a unified kernel image. Raises InputError for one that cannot be taken apart."""
    found = unified.sections(_head_of(efi))
    if PROFILE in found:
        raise InputError(f"{efi} is a unified kernel image of more than one profile: make one that starts the node alone.")
    if found and INITRAMFS not in found:
        raise InputError(
            f"{efi} is a unified kernel image without an initramfs: give the kernel that is in it (objcopy -O binary "
            "--only-section=.linux), which is kiOS's own EFI binary."
        )
    return bool(found)


def parts_of(efi: Path, cache: Path) -> Parts:
    """Takes a unified kernel image apart; its parts are kept in the cache."""
    found = unified.sections(_head_of(efi))
    key = digest.of(efi)
    kernel, initramfs = (
        store.hold(cache / "images" / f"{key}{name}", Path.exists, partial(_take_out, efi, found[name]))
        for name in (KERNEL, INITRAMFS)
    )
    words = _content(efi, found[WORDS]).rstrip(b"\0").decode(errors="replace").split() if WORDS in found else []
    return Parts(kernel, initramfs, tuple(words))


def _take_out(efi: Path, part: Section, file: Path) -> None:
    file.write_bytes(_content(efi, part))


def _content(efi: Path, part: Section) -> bytes:
    with efi.open("rb") as image:
        image.seek(part.offset)
        content = image.read(part.size)
    if len(content) < part.size:
        raise DamagedImageError(f"{efi} is truncated: it ends before what its sections have. Copy it again.")
    return content


def _head_of(efi: Path) -> bytes:
    with efi.open("rb") as image:
        return image.read(unified.HEAD)
