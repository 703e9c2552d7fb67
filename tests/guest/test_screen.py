"""Text off pictures of a screen, drawn here with a made-up font whose glyphs are all different."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.guest import screen
from harness.guest.screen import UNKNOWN, Font, Screen

_BLACK, _GREY, _RED, _BLUE = bytes(3), b"\xaa\xaa\xaa", b"\xaa\x00\x00", b"\x00\x00\xaa"
_BLANK, _FULL = bytes(16), b"\xff" * 16
_UPPER, _LOWER = b"\xff" * 8 + bytes(8), bytes(8) + b"\xff" * 8
_UPPER_CODE, _LOWER_CODE = 0xDF, 0xDC
# As in the kernel's font, the rows of the cursor are empty in some glyphs and used in others.
_DRAWN = random.Random(437)
_GLYPHS = [_DRAWN.randbytes(15) + _DRAWN.choice([b"\0", _DRAWN.randbytes(1)]) for _ in range(256)]
for _code, _glyph in ((0, _BLANK), (32, _BLANK), (255, _BLANK), (219, _FULL), (_UPPER_CODE, _UPPER), (_LOWER_CODE, _LOWER)):
    _GLYPHS[_code] = _glyph

Cell = list[bytes]
"""16 rows of 8 pixels."""


def cell(glyph: bytes, ink: bytes = _GREY, paper: bytes = _BLACK) -> Cell:
    return [b"".join(ink if row >> (7 - bit) & 1 else paper for bit in range(8)) for row in glyph]


def written(text: bytes, ink: bytes = _GREY, paper: bytes = _BLACK) -> list[Cell]:
    return [cell(_GLYPHS[code], ink, paper) for code in text]


def inverted(glyph: bytes, rows: int) -> bytes:
    """A glyph with a cursor of so many rows on it, as the kernel draws it."""
    return glyph[: 16 - rows] + bytes(row ^ 0xFF for row in glyph[16 - rows :])


def ppm(rows: Sequence[list[Cell]], *, right: int = 0, below: int = 0) -> bytes:
    """A picture of rows of cells, the short ones filled up, with a rest of pixels that make no cell."""
    columns = max(len(row) for row in rows)
    width, height = columns * 8 + right, len(rows) * 16 + below
    blank = cell(_BLANK)
    lines = [
        b"".join(each[line] for each in [*row, *[blank] * (columns - len(row))]) + _RED * right
        for row in rows
        for line in range(16)
    ]
    return b"P6\n%d %d\n255\n" % (width, height) + b"".join(lines) + _BLUE * width * below


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Font:
    path = tmp_path_factory.mktemp("font") / "font-8x16.bin"
    path.write_bytes(b"".join(_GLYPHS))
    return Font.read(path)


def test_lines_are_read_in_their_places_without_the_spaces_at_their_ends(font: Font) -> None:
    seen = screen.read(ppm([written(b"[ 0.1] kiOS  "), [], written(b"  x")]), font)
    assert seen == Screen(("[ 0.1] kiOS", "", "  x"), 0)
    assert seen.text == "[ 0.1] kiOS\n  x"


@pytest.mark.parametrize(
    ("codes", "characters"),
    [
        (bytes(range(0x21, 0x7F)), "".join(map(chr, range(0x21, 0x7F)))),
        (bytes((0x81, 0xC4, 0xE1, 0xFE)), "ü─ß■"),
        (bytes((1, 7, 16, 31, 127)), "☺•►▼⌂"),
        (b"a\0\xff b", "a   b"),
    ],
    ids=["ascii", "upper-half", "graphics", "blanks"],
)
def test_codes_are_those_of_code_page_437(font: Font, codes: bytes, characters: str) -> None:
    assert screen.read(ppm([written(codes)]), font).lines == (characters,)


def test_of_codes_that_share_a_glyph_ascii_counts(tmp_path: Path) -> None:
    path = tmp_path / "font"
    shared = [*_GLYPHS]
    shared[5] = shared[200] = shared[ord("k")]
    path.write_bytes(b"".join(shared))
    assert screen.read(ppm([[cell(shared[5]), cell(shared[200]), cell(shared[ord("k")])]]), Font.read(path)).text == "kkk"


@pytest.mark.parametrize(
    ("ink", "paper"),
    [(_GREY, _BLACK), (_BLACK, _GREY), (_RED, _BLUE), (b"\x01\x02\x03", b"\x03\x01\x02")],
    ids=["usual", "inverse-video", "coloured", "same-bytes"],
)
def test_colours_do_not_matter(font: Font, ink: bytes, paper: bytes) -> None:
    everything = bytes(code for code in range(256) if code not in (0, 32, 255, 219, _UPPER_CODE, _LOWER_CODE))
    expected = screen.read(ppm([written(everything)]), font)
    assert expected.unknown == 0
    assert screen.read(ppm([written(everything, ink, paper)]), font) == expected


def test_every_colour_has_its_place_on_one_line(font: Font) -> None:
    line = [
        *written(b"[ "),
        *written(b"FAIL", _RED),
        *written(b" ] "),
        *written(b"on", _BLACK, _GREY),
        *written(b" x", _RED, _BLUE),
    ]
    assert screen.read(ppm([line]), font) == Screen(("[ FAIL ] on x",), 0)


@pytest.mark.parametrize(("ink", "paper"), [(_GREY, _BLACK), (_BLACK, _GREY), (_RED, _BLACK)])
def test_the_background_tells_a_block_from_its_inverse(font: Font, ink: bytes, paper: bytes) -> None:
    blocks = bytes((_UPPER_CODE, _LOWER_CODE))
    around = written(b"        ", ink, paper)
    assert screen.read(ppm([[*written(blocks, ink, paper), *around]]), font).lines == ("▀▄",)


def test_a_cell_of_one_colour_is_a_space(font: Font) -> None:
    line = [*written(b"a"), cell(_FULL), cell(_BLANK, _RED, _BLUE), *written(b"b")]
    assert screen.read(ppm([line]), font) == Screen(("a  b",), 0)
    assert screen.read(ppm([line]), Font({}, {})) == Screen((f"{UNKNOWN}  {UNKNOWN}",), 2)


@pytest.mark.parametrize("rows", [2, 16], ids=["underline", "block"])
@pytest.mark.parametrize("at", range(4))
def test_the_cursor_hides_nothing(font: Font, rows: int, at: int) -> None:
    text = b"kg x"
    line = written(text)
    line[at] = cell(inverted(_GLYPHS[text[at]], rows))
    assert screen.read(ppm([line]), font) == Screen(("kg x",), 0)


def test_the_cursor_behind_a_line_adds_nothing_to_it(font: Font) -> None:
    assert screen.read(ppm([[*written(b"~ # "), cell(inverted(_BLANK, 2))]]), font) == Screen(("~ #",), 0)


@pytest.mark.parametrize("bit", [0, 7, 64, 127])
def test_one_pixel_off_is_no_glyph(font: Font, bit: int) -> None:
    spoilt = (int.from_bytes(_GLYPHS[ord("k")]) ^ 1 << bit).to_bytes(16)
    assert screen.read(ppm([[*written(b"a"), cell(spoilt), *written(b"b")]]), font) == Screen((f"a{UNKNOWN}b",), 1)


def test_a_third_colour_is_no_glyph(font: Font) -> None:
    spoilt = cell(_GLYPHS[ord("k")])[:8] + cell(_GLYPHS[ord("k")], _RED)[8:]
    assert screen.read(ppm([[*written(b"a"), spoilt, spoilt]]), font) == Screen((f"a{UNKNOWN}{UNKNOWN}",), 2)


@pytest.mark.parametrize(("right", "below"), [(0, 0), (1, 0), (7, 15), (0, 1)])
def test_the_rest_at_the_right_and_below_is_ignored(font: Font, right: int, below: int) -> None:
    assert screen.read(ppm([written(b"k"), written(b"kiOS")], right=right, below=below), font).lines == ("k", "kiOS")


@pytest.mark.parametrize("colour", [_BLACK, _RED])
def test_a_picture_of_one_colour_has_no_lines(font: Font, colour: bytes) -> None:
    seen = screen.read(b"P6 640 400 255\n" + colour * 640 * 400 + b"\n", font)
    assert seen == Screen((), 0)
    assert seen.text == ""


def test_a_picture_smaller_than_a_cell_has_no_lines(font: Font) -> None:
    assert screen.read(b"P6 2 1 255\n" + _RED + _BLUE, font) == Screen((), 0)
    assert screen.read(b"P6 2 16 255\n" + _RED + _BLUE * 31, font).text == ""


def test_a_screen_of_1280_by_800_is_read_at_once(font: Font) -> None:
    drawn = random.Random(1)
    texts = ["".join(drawn.choices("kiOS [0123456789.]", k=159)) + "x" for _ in range(50)]
    picture = ppm([written(text.encode()) for text in texts])
    assert picture.startswith(b"P6\n1280 800\n")
    started = time.process_time()
    seen = screen.read(picture, font)
    assert time.process_time() - started < 0.3
    assert seen == Screen(tuple(texts), 0)


@pytest.mark.parametrize(
    "header",
    [
        b"P6 8 16 255 ",
        b"P6\n8\n16\n255\n",
        b"P6\r\n8\t16  255\t",
        b"P6\n# by QEMU\n8 16\n255\n",
        b"P6#by QEMU\n#255 255 255\n8#wide\n 16 #high\n255#colours\n",
    ],
    ids=["spaces", "lines", "mixed", "comment", "comments-everywhere"],
)
def test_a_header_may_be_written_in_every_way(font: Font, header: bytes) -> None:
    # The first pixel is a line's end and a comment's beginning: neither belongs to the header any more.
    pixels = b"".join(cell(_GLYPHS[ord("k")], b"\n#\n", b"#\n#"))
    assert screen.read(header + pixels + b"P6 another picture", font).text == "k"


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"", "must be a PPM file"),
        (b"P5 8 16 255\n" + bytes(384), r"must be a PPM file \(P6\), and this one begins with b'P5"),
        (b"P68 16 255\n" + bytes(384), "must be a PPM file"),
        (b"P6 8 16", "must be a PPM file"),
        (b"P6 8 -16 255\n" + bytes(384), "must be a PPM file"),
        (b"P6 # 8 16 255 ", "must be a PPM file"),
        (b"P6 " + b"9" * 5000 + b" 16 255\n", "must be a PPM file"),
        (b"P6 8 16 " + b"9" * 5000 + b"\n", "must be a PPM file"),
        (b"P6 0 16 255\n", "not 0 x 16 pixels"),
        (b"P6 8 0 255\n", "not 8 x 0 pixels"),
        (b"P6 8 16 65535\n" + bytes(768), "must count colours up to 255"),
        (b"P6 8 16 255\n" + bytes(383), "cut off, take it again: 383 bytes of 8 x 16 pixels"),
        (b"P6 999999999 999999999 255\n" + bytes(384), "cut off"),
    ],
    ids=[
        "empty",
        "grey",
        "no-gap",
        "no-numbers",
        "negative",
        "all-comment",
        "endless-width",
        "endless-depth",
        "no-width",
        "no-height",
        "16-bit",
        "cut",
        "huge",
    ],
)
def test_a_broken_picture_is_refused(font: Font, picture: bytes, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        screen.read(picture, font)


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), colours=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_every_picture_has_a_cell_for_each_place(font: Font, width: int, height: int, colours: int, seed: int) -> None:
    pixels = random.Random(seed).choices([_BLACK, _GREY, _RED, _BLUE][:colours], k=width * height)
    seen = screen.read(b"P6 %d %d 255\n" % (width, height) + b"".join(pixels), font)
    assert len(seen.lines) in (0, height // 16)
    assert all(len(line) <= width // 8 for line in seen.lines)
    assert seen.unknown == seen.text.count(UNKNOWN)


@pytest.mark.parametrize("size", [0, 4095, 4097, 8192])
def test_a_font_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "font-8x16.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(HarnessError, match=f"font-8x16.bin is no font of 256 glyphs of 8 x 16: it has {size} bytes, not 4096"):
        Font.read(path)


def test_a_font_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"cannot be read without its font: .*font-8x16\.bin"):
        Font.read(tmp_path / "font-8x16.bin")
