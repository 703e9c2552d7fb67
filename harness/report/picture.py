"""A screen as QEMU dumps it (PPM), as PNG, which browsers show."""

import re
import struct
import zlib

_HEADER = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")


def png(ppm: bytes) -> bytes:
    """The same picture as PNG (ISO/IEC 15948); nothing for what is no whole picture."""
    header = _HEADER.match(ppm)
    if header is None:
        return b""
    width, height = int(header[1]), int(header[2])
    pixels, stride = ppm[header.end() :], width * 3
    if not width or not height or len(pixels) < stride * height:
        return b""
    rows = b"".join(b"\0" + pixels[top : top + stride] for top in range(0, stride * height, stride))
    chunks = (
        (b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", zlib.crc32(kind + content))
