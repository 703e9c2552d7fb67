"""The variants of the reference image: each is told of, and what a release has is among what is built."""

import re
from pathlib import Path

from images import containers, variant

PROJECT = Path(__file__).parents[2]


def test_every_variant_is_in_the_readme() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (PROJECT / "images/README.md").read_text(), re.MULTILINE)
    assert set(variant.VARIANTS) <= set(rows)


def test_every_flavour_of_the_kernel_packs_it_in_its_own_way() -> None:
    packed = {file.stem: re.findall(r"^CONFIG_KERNEL_(\w+)=y", file.read_text(), re.MULTILINE) for file in flavours()}
    assert packed["fast"] == ["LZ4"]
    assert packed["a"] == ["LZMA"]


def test_a_release_has_no_image_of_the_harness() -> None:
    names = {recipe.short_name: recipe.image.name for recipe in containers.RECIPES}
    assert set(containers.RELEASED) <= names.keys()
    assert not [name for name in containers.RELEASED if "localhost" in names[name]]


def flavours() -> list[Path]:
    return sorted((PROJECT / "images/kernel").glob("*.config"))
