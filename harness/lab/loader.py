"""A boot loader on a user's EFI System Partition: which kernel it starts, and which initramfs it passes to the kernel.

A loader passes an initramfs by a media GUID (kernel, Documentation/admin-guide/efi-stub.rst), which takes precedence over load
options, so what a node is given has to be in a file that the loader names. The loader's configuration tells which; GRUB and
systemd-boot (Boot Loader Specification) use the same words in it.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import HarnessError, InputError
from harness.storage import esp, unified
from harness.storage.disk import Disk

_CONFIGURATION = (".conf", ".cfg")
# How many files of configuration are read, and how much of each: more than any node has.
_MOST_FILES, _MOST_OF_A_FILE = 64, 64 << 10
_MOST_PARTS = 16
_LINE = re.compile(r"\s*(?P<word>linux|linuxefi|initrd|initrdefi)\s+(?P<rest>.*\S)")
# Started by a firmware (UEFI 2.10, 3.5.1.1), or by systemd-boot without configuration (Boot Loader Specification, type 2).
_STARTED = re.compile(r"EFI/(?:BOOT/BOOTX64|Linux/[^/]+)\.EFI", re.IGNORECASE)
# GRUB's name of a partition, as ($root).
_PARTITION = re.compile(r"^\([^)]*\)")


@dataclass(frozen=True)
class Entry:
    """What a loader starts: a kernel, and the files that are joined to its initramfs, in order; as paths on its partition."""

    kernel: str
    initramfs: tuple[str, ...]


def entry_on(disk: Disk) -> Entry | None:
    """The entry that names an initramfs; None for a disk without a loader, or whose loader names none.

    Raises InputError if several entries differ, because nobody knows which of them a node starts, or if a configuration
    cannot be read.
    """
    files = [file for file in esp.files(disk) if file.lower().endswith(_CONFIGURATION)]
    texts = (_text_of(disk, file) for file in files[:_MOST_FILES])
    found = list(dict.fromkeys(entry for text in texts for entry in _entries(text) if entry.initramfs))
    if len(found) > 1:
        raise InputError(
            f"{disk.path} has a boot loader with {len(found)} entries that name an initramfs: leave one of them, that of the "
            "node that is to be tested."
        )
    if found and len(found[0].initramfs) > _MOST_PARTS:
        raise InputError(
            f"{disk.path} has a boot loader that joins {len(found[0].initramfs)} files for one initramfs: no more than "
            f"{_MOST_PARTS} are joined here."
        )
    return found[0] if found else None


def unified_image_on(disk: Disk) -> str:
    """The path of a unified kernel image that a firmware or a loader starts by itself; empty if there is none."""
    loaded = [file for file in esp.files(disk) if _STARTED.fullmatch(file)]
    for file in loaded[:_MOST_FILES]:
        with contextlib.suppress(HarnessError):
            if unified.sections(esp.head(disk, file, unified.HEAD)):
                return file
    return ""


def file_of(disk: Disk, name: str) -> bytes:
    """The content of a file that a loader names; raises InputError if it cannot be read on the loader's own partition."""
    try:
        return esp.read(disk, name)
    except HarnessError as unread:
        raise InputError(
            f"{disk.path} has a boot loader that starts a node with {name}, and that cannot be read on its EFI System "
            "Partition: put it there, under a name of letters, digits, dots and dashes."
        ) from unread


def _text_of(disk: Disk, file: str) -> str:
    try:
        return esp.head(disk, file, _MOST_OF_A_FILE).decode(errors="replace")
    except HarnessError as unread:
        raise InputError(
            f"{disk.path} has {file} on its EFI System Partition, which may say what a boot loader starts, and cannot be "
            "read: leave it out, or give it a name of letters, digits, dots and dashes."
        ) from unread


def _entries(text: str) -> Iterator[Entry]:
    kernel, initramfs = "", list[str]()
    for line in text.splitlines():
        if not (said := _LINE.fullmatch(line)):
            continue
        if said["word"].startswith("initrd"):
            initramfs += map(_path, said["rest"].split())
            continue
        if kernel and initramfs:
            yield Entry(kernel, tuple(initramfs))
            initramfs = []
        kernel = _path(said["rest"].split()[0])
    yield Entry(kernel, tuple(initramfs))


def _path(named: str) -> str:
    return str(PurePosixPath(_PARTITION.sub("", named).replace("\\", "/"))).lstrip("/")
