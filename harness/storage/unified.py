"""The sections of an EFI binary, which of a unified kernel image are a kernel, its initramfs and its command line.

Source: UAPI group, "Unified Kernel Image" (UKI), as systemd-stub(7) has it. The file is not trusted.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KERNEL, INITRAMFS, COMMAND_LINE, PROFILE = ".linux", ".initrd", ".cmdline", ".profile"
HEAD = 4096
"""All headers are within so many bytes from the beginning."""

# PE format (Microsoft, "PE Format"): where the offset of the header is, its magic, the headers of sections.
_PLACE, _MAGIC = 0x3C, b"PE\0\0"
_FILE_HEADER, _SECTION = struct.Struct("<H12xH"), struct.Struct("<8sIIII16x")
_NUMBER_OF_SECTIONS, _OPTIONAL_HEADER = 6, 24


@dataclass(frozen=True)
class Section:
    """The place of a section's content in its file, in bytes."""

    offset: int
    size: int


def sections(head: bytes) -> Mapping[str, Section]:
    """The sections of a unified kernel image by name, the first of two with the same name; empty for any other file.

    `head` is the beginning of the file, `HEAD` bytes or more.
    """
    found: dict[str, Section] = {}
    try:
        for name, size, size_in_file, offset in _headers(head):
            # In the file, a section is padded to the file's alignment.
            found.setdefault(name.rstrip(b"\0").decode(errors="replace"), Section(offset, min(size, size_in_file)))
    except struct.error:
        return {}
    return found if KERNEL in found else {}


def end(head: bytes) -> int:
    """Where the last section of an EFI binary ends in its file, in bytes; 0 for any other file."""
    try:
        return max((offset + size for _, _, size, offset in _headers(head)), default=0)
    except struct.error:
        return 0


def _headers(head: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """The name of each section of an EFI binary, its size in memory and in the file, and its offset there.

    Raises struct.error if they are not all in the `head`.
    """
    (at,) = struct.unpack_from("<I", head, _PLACE)
    if not head.startswith(b"MZ") or head[at : at + len(_MAGIC)] != _MAGIC:
        return
    count, optional = _FILE_HEADER.unpack_from(head, at + _NUMBER_OF_SECTIONS)
    for number in range(count):
        header = _SECTION.unpack_from(head, at + _OPTIONAL_HEADER + optional + number * _SECTION.size)
        name, size, _, size_in_file, offset = header
        yield name, size, size_in_file, offset
