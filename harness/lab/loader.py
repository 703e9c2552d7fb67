"""A boot loader on a user's EFI System Partition: which kernel it starts, and which initramfs it hands over to that.

A loader hands it over by a media GUID (kernel, Documentation/admin-guide/efi-stub.rst), which goes before load options: what a
node is given has to be in a file that the loader names. That is told by its configuration, whose words GRUB and the Boot Loader
Specification, as systemd-boot has it, share.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import InputError
from harness.storage import esp
from harness.storage.disk import Disk

_CONFIGURATION = (".conf", ".cfg")
_MOST_FILES = 64
_LINE = re.compile(r"\s*(?P<word>linux|linuxefi|initrd|initrdefi)\s+(?P<rest>.*\S)")
# GRUB's names of a partition, as ($root).
_PARTITION = re.compile(r"^\([^)]*\)")


@dataclass(frozen=True)
class Entry:
    """What a loader starts: a kernel with the files of an initramfs, joined in their order, by their paths on its partition."""

    kernel: str
    initramfs: tuple[str, ...]


def entry_on(disk: Disk) -> Entry | None:
    """The one that names an initramfs; None for a disk without a loader, or whose loader names none.

    Raises InputError where there are several that differ: nobody knows which of them a node starts.
    """
    files = [file for file in esp.files(disk) if file.lower().endswith(_CONFIGURATION)]
    texts = (esp.read(disk, file).decode(errors="replace") for file in files[:_MOST_FILES])
    found = list(dict.fromkeys(entry for text in texts for entry in _entries(text) if entry.initramfs))
    if len(found) > 1:
        raise InputError(
            f"{disk.path} has a boot loader with {len(found)} entries that name an initramfs: leave one of them, that of the "
            "node that is to be tested."
        )
    return found[0] if found else None


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
