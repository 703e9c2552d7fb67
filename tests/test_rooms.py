"""The house: which room may import which, as each room's own docstring says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent.parent / "harness"
ROOMS = sorted(folder.name for folder in HARNESS.iterdir() if (folder / "__init__.py").exists())
# What every room may use: no room, and below all of them.
COMMON = {"errors", "escape", "loopback", "space", "told", "tools", "user_file", "whole_file"}


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """The modules and rooms of the harness that a file imports, by the word behind `harness.`, with their lines."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "harness":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("harness."):
            yield (node.module or "").split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[1], node.lineno) for alias in node.names if alias.name.startswith("harness."))


def allowed(room: str) -> set[str]:
    """The rooms that the docstring of a room names behind `Imports:`."""
    docstring = ast.get_docstring(ast.parse((HARNESS / room / "__init__.py").read_text())) or ""
    line = re.search(r"^Imports: (.+)\.$", docstring, re.MULTILINE)
    assert line, f"harness/{room}/__init__.py does not say what it imports: `Imports: verdict, storage.` or `Imports: nothing.`"
    return set() if line[1] == "nothing" else set(line[1].split(", "))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_says(room: str) -> None:
    used = {(name, file.name, line) for file in (HARNESS / room).glob("*.py") for name, line in imports(file)}
    others = {(name, file, line) for name, file, line in used if name not in COMMON | {room}}
    assert {name for name, _, _ in others} == allowed(room), sorted(others)


def test_the_arrows_point_one_way() -> None:
    left = {room: allowed(room) for room in ROOMS}
    while free := [room for room, below in left.items() if not below & left.keys()]:
        for room in free:
            del left[room]
    assert not left, f"these rooms import each other in a circle: {left}"


def test_images_and_harness_meet_at_files_only() -> None:
    for file in (HARNESS.parent / "images").rglob("*.py"):
        assert not list(imports(file)), f"{file} imports the harness"
    for file in HARNESS.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) images\b", file.read_text(), re.MULTILINE), f"{file} imports images"
