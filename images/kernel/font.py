"""The font of the kernel's framebuffer console, taken from its source: what the text on a node's screen is drawn with."""

import re
from pathlib import Path

from images.errors import BuildError

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# struct font_data (lib/fonts, include/linux/font.h): four numbers in front of the glyphs.
_TABLE = re.compile(r"\bfontdata_8x16\s*=\s*\{\s*\{[^{}]*\}\s*,\s*\{(?P<glyphs>[^{}]*)\}")
_BYTE = re.compile(r"\b0x[0-9a-fA-F]{1,2}\b")
_SIZE = 256 * 16


def extract(source: Path) -> bytes:
    """Returns the 4096 bytes of lib/fonts/font_8x16.c: 256 glyphs of 16 rows, a byte a row, the leftmost pixel its high bit.

    BuildError if the table is not found or not of that size.
    """
    table = _TABLE.search(_COMMENT.sub(" ", source.read_text(encoding="utf-8", errors="replace")))
    font = bytes(int(byte, 16) for byte in _BYTE.findall(table["glyphs"])) if table else b""
    if len(font) != _SIZE:
        raise BuildError(
            f"{source.name} has {len(font)} bytes of glyphs in fontdata_8x16, not {_SIZE}.",
            "This kernel writes its font down in another way: teach images/kernel/font.py to read it.",
        )
    return font
