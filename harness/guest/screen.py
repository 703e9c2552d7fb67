"""The text on a node's screen, from a picture of the framebuffer and the font of the kernel's console.

Nothing is guessed: a cell is the character whose glyph it shows exactly, in any two colours, or it is unknown.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for a cell that shows no glyph of the font."""

_COLUMNS, _ROWS = 8, 16
_GLYPHS = 256
_PIXEL = 3
_CELL_WIDTH = _COLUMNS * _PIXEL
# The rows that the console's cursor inverts (kernel, drivers/video/fbdev/core/bitblit.c, CUR_UNDERLINE).
_CURSOR_ROWS = 2
# The graphics of code page 437 for the codes below a space, which Python's codec takes as control characters; 0 is blank.
_GRAPHICS = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
_DELETE, _HOUSE = 0x7F, "⌂"
# ppm(5): whitespace between the numbers, with comments up to the end of a line; one whitespace before the pixels.
_GAP = rb"(?:[ \t\r\n]|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P6" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})(?:#[^\r\n]*)?[ \t\r\n]")


@dataclass(frozen=True)
class Font:
    """The characters by their glyphs of 8 x 16 pixels: 16 bytes, one per row, whose high bit is the leftmost pixel.

    `under_cursor` has the glyphs with the console's cursor on them. The codes are those of code page 437; of codes that share a
    glyph, the ASCII one counts. 1 to 31 and 127 are the page's graphics (1 is a face), not control characters.
    """

    glyphs: Mapping[bytes, str]
    under_cursor: Mapping[bytes, str]

    @classmethod
    def read(cls, path: Path) -> "Font":
        """Reads the kernel's font, in the format of its lib/fonts; raises HarnessError if `path` is not one of 256 glyphs."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise HarnessError(f"the screen cannot be read without its font: {error}") from error
        if len(content) != _GLYPHS * _ROWS:
            raise HarnessError(f"{path} is no font of 256 glyphs of 8 x 16: it has {len(content)} bytes, not {_GLYPHS * _ROWS}")
        glyphs: dict[bytes, str] = {}
        for code in sorted(range(_GLYPHS), key=_is_ascii, reverse=True):
            glyphs.setdefault(content[code * _ROWS : (code + 1) * _ROWS], _character(code))
        return cls(glyphs, {_with_cursor(glyph): character for glyph, character in glyphs.items()})


@dataclass(frozen=True)
class Screen:
    """What is written on a screen, a string for each row of cells, without the spaces at its end.

    There are no lines if the picture is of one colour. `unknown` counts the cells that are shown as `UNKNOWN`: the kernel's
    text has none, a firmware's logo has many.
    """

    lines: tuple[str, ...]
    unknown: int

    @property
    def text(self) -> str:
        """The lines that are not empty."""
        return "\n".join(line for line in self.lines if line)


def read(ppm: bytes, font: Font) -> Screen:
    """Reads a screen as QEMU dumps it (QMP screendump, PPM with 8 bits per colour).

    Incomplete cells at the right and at the bottom are ignored. A cell of one colour is a space. Raises HarnessError if `ppm`
    is not a whole picture.
    """
    width, height, pixels = _picture(ppm)
    if pixels == pixels[:_PIXEL] * (width * height):
        return Screen((), 0)
    rows = _cells(width, height, pixels)
    # A glyph and its inverse may both be in the font, like the upper and the lower half block: the background tells them apart.
    corners = Counter(cell[:_PIXEL] for row in rows for cell in row)
    background = max(corners, key=corners.__getitem__, default=b"")
    characters = {cell: _look_up(cell, background, font) for cell in {cell for row in rows for cell in row}}
    lines = ["".join([characters[cell] for cell in row]) for row in rows]
    return Screen(tuple(line.rstrip(" ") for line in lines), sum(line.count(UNKNOWN) for line in lines))


def _is_ascii(code: int) -> bool:
    return len(_GRAPHICS) <= code < _DELETE


def _character(code: int) -> str:
    if code < len(_GRAPHICS):
        return _GRAPHICS[code]
    return _HOUSE if code == _DELETE else bytes((code,)).decode("cp437")


def _with_cursor(glyph: bytes) -> bytes:
    return glyph[:-_CURSOR_ROWS] + _inverse(glyph[-_CURSOR_ROWS:])


def _inverse(bitmap: bytes) -> bytes:
    return bytes(row ^ 0xFF for row in bitmap)


def _picture(ppm: bytes) -> tuple[int, int, bytes]:
    """Returns width and height in pixels, and the pixels, three bytes each."""
    header = _HEADER.match(ppm)
    if header is None:
        raise HarnessError(f"a picture of the screen must be a PPM file (P6), and this one begins with {ppm[:16]!r}")
    width, height, depth = (int(number) for number in header.groups())
    if depth != 0xFF or not width or not height:
        raise HarnessError(f"a picture of the screen must count colours up to 255, not {width} x {height} pixels up to {depth}")
    pixels = ppm[header.end() : header.end() + width * height * _PIXEL]
    if len(pixels) < width * height * _PIXEL:
        raise HarnessError(
            f"the picture of the screen is cut off, take it again: {len(pixels)} bytes of {width} x {height} pixels"
        )
    return width, height, pixels


def _cells(width: int, height: int, pixels: bytes) -> list[list[bytes]]:
    """Cuts a picture into the whole cells of each row, the pixels of a cell row by row."""
    stride = width * _PIXEL
    lefts = range(0, width // _COLUMNS * _CELL_WIDTH, _CELL_WIDTH)
    rows = []
    for top in range(0, height // _ROWS * _ROWS * stride, _ROWS * stride):
        strips = [pixels[at : at + stride] for at in range(top, top + _ROWS * stride, stride)]
        rows.append([b"".join([strip[left : left + _CELL_WIDTH] for strip in strips]) for left in lefts])
    return rows


def _look_up(cell: bytes, background: bytes, font: Font) -> str:
    """The character that a cell shows; if it could be two, the one that is drawn on `background`."""
    pixels = [cell[at : at + _PIXEL] for at in range(0, len(cell), _PIXEL)]
    colours = Counter(pixels)
    if len(colours) == 1:
        return " "
    if len(colours) > 2:
        return UNKNOWN
    paper = max(colours, key=lambda colour: (colour == background, colours[colour]))
    bits = "".join(["0" if pixel == paper else "1" for pixel in pixels])
    drawn = int(bits, 2).to_bytes(_ROWS)
    for shapes in (font.glyphs, font.under_cursor):
        for bitmap in (drawn, _inverse(drawn)):
            if bitmap in shapes:
                return shapes[bitmap]
    return UNKNOWN
