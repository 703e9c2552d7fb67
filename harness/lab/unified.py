"""A unified kernel image instead of kiOS's EFI binary: taken apart, because its stub passes on only what it contains.

The stub passes its initramfs by a media GUID, which takes precedence over load options (kernel,
Documentation/admin-guide/efi-stub.rst), so a node could be given nothing else. So the harness's boot entry starts its parts.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import DamagedImageError, InputError
from harness.lab import digest
from harness.lab.cache import hold
from harness.storage import unified
from harness.storage.unified import COMMAND_LINE, INITRAMFS, KERNEL, PROFILE, Section


@dataclass(frozen=True)
class Parts:
    """Files with its kernel and its initramfs, and its arguments for the kernel."""

    kernel: Path
    initramfs: Path
    kernel_arguments: tuple[str, ...]


def is_one(efi: Path) -> bool:
    """Whether an EFI binary is a unified kernel image.

    Raises InputError for one that cannot be taken apart, DamagedImageError for a truncated binary of any kind.
    """
    head = _head_of(efi)
    if unified.end(head) > efi.stat().st_size:
        raise _truncated(efi)
    found = unified.sections(head)
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
        hold(cache / "images" / f"{key}{name}", Path.exists, partial(_take_out, efi, found[name]))
        for name in (KERNEL, INITRAMFS)
    )
    words = _content(efi, found[COMMAND_LINE]).rstrip(b"\0").decode(errors="replace").split() if COMMAND_LINE in found else []
    return Parts(kernel, initramfs, tuple(words))


def _take_out(efi: Path, part: Section, file: Path) -> None:
    file.write_bytes(_content(efi, part))


def _content(efi: Path, part: Section) -> bytes:
    with efi.open("rb") as image:
        image.seek(part.offset)
        content = image.read(part.size)
    if len(content) < part.size:
        raise _truncated(efi)
    return content


def _truncated(efi: Path) -> DamagedImageError:
    return DamagedImageError(f"{efi} is truncated: it ends before what its sections have. Copy it again.")


def _head_of(efi: Path) -> bytes:
    with efi.open("rb") as image:
        return image.read(unified.HEAD)
