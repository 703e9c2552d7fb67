"""The console's font out of a kernel's C source, here a made-up one."""

import random
from pathlib import Path

import pytest

from images.errors import BuildError
from images.kernel import font

_GLYPHS = random.Random(16).randbytes(4096)


def c_source(glyphs: bytes, name: str = "fontdata_8x16") -> str:
    """As the kernel writes it: a header of four numbers, and comments that hold braces, numbers and the glyph's picture."""
    rows = []
    for at, row in enumerate(glyphs):
        if at % 16 == 0:
            shown = chr(at // 16) if 32 <= at // 16 < 127 else "^@"
            rows.append(f"\n\t/* {at // 16} {at // 16:#04x}\n\t * '{shown}' */")
        rows.append(f"\t{row:#04x}, /* {row:08b} */")
    head = f"#define FONTDATAMAX 4096\n\nstatic const struct font_data {name} = {{\n\t{{ 0, 0, FONTDATAMAX, 0 }}, {{"
    tail = "} };\n\nconst struct font_desc font_vga_8x16 = {\n\t.width = 8,\n\t.height = 0x10,\n};\n"
    return "\n".join([head, *rows, tail])


def written(folder: Path, text: str) -> Path:
    path = folder / "font_8x16.c"
    path.write_text(text)
    return path


def test_the_glyphs_are_the_bytes_of_the_table(tmp_path: Path) -> None:
    assert font.extract(written(tmp_path, c_source(_GLYPHS))) == _GLYPHS


def test_what_is_around_the_table_is_not_taken_for_it(tmp_path: Path) -> None:
    other = c_source(bytes(4096), "fontdata_10x18")
    assert font.extract(written(tmp_path, f"/* {{ 0x01 }} */\n{other}{c_source(_GLYPHS)}{other}")) == _GLYPHS


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        (c_source(_GLYPHS, "fontdata_8x8"), 0),
        (c_source(_GLYPHS[:-1]), 4095),
        (c_source(_GLYPHS + b"\0"), 4097),
        (c_source(_GLYPHS).replace("0x", "0x1"), 0),
    ],
    ids=["empty", "another-font", "one-short", "one-more", "words-not-bytes"],
)
def test_a_table_of_another_size_is_refused(tmp_path: Path, text: str, count: int) -> None:
    with pytest.raises(BuildError, match=f"font_8x16.c has {count} bytes of glyphs"):
        font.extract(written(tmp_path, text))
