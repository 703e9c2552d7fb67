"""Unified kernel images of a few bytes."""

import struct
from collections.abc import Mapping

_ALIGNED = 512


def unified_image(sections: Mapping[str, bytes]) -> bytes:
    """A PE file with these sections (Microsoft, "PE Format"), each filled up to the file's alignment."""
    at, optional = 0x80, 240
    head = bytearray(1024)
    head[:2], head[at : at + 4] = b"MZ", b"PE\0\0"
    struct.pack_into("<I", head, 0x3C, at)
    struct.pack_into("<HHIIIHH", head, at + 4, 0x8664, len(sections), 0, 0, 0, optional, 0x22)
    content = b""
    for number, (name, section) in enumerate(sections.items()):
        filled = section + bytes(-len(section) % _ALIGNED)
        place = (len(section), 0x1000 * (number + 1), len(filled), len(head) + len(content))
        struct.pack_into("<8sIIII", head, at + 24 + optional + 40 * number, name.encode(), *place)
        content += filled
    return bytes(head) + content
