"""The page on container images, against the recipes that they are made by."""

import re
from pathlib import Path

from images.containers import RECIPES

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| `([^`]+)` \|$", re.MULTILINE)


def test_the_table_has_every_image_and_its_entry_point() -> None:
    rows = _ROW.findall((ROOT / "docs/container-images.md").read_text())
    recipes = [(recipe.image.name, " ".join([*recipe.image.entrypoint, *recipe.image.command])) for recipe in RECIPES]
    assert [(name, entry) for name, _, entry in rows] == recipes


def test_the_page_is_found() -> None:
    for page in ("README.md", "docs/writing-scenarios.md"):
        assert "container-images.md" in (ROOT / page).read_text()
