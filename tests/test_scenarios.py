"""Our own scenarios: short, each with its promise, and no command whose status nobody looks at."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from harness.errors import NodeFailure
from scenarios.init import ASSERTED

FILES = sorted((Path(__file__).parent.parent / "scenarios").glob("*.py"))
FUNCTIONS = [
    pytest.param(node, id=f"{file.stem}::{node.name}")
    for file in FILES
    for node in ast.parse(file.read_text()).body
    if isinstance(node, ast.FunctionDef)
]
_LINES = 30


def commands(function: ast.AST) -> Iterator[tuple[ast.Call, ast.AST | None]]:
    """The calls of `run` and `exec` on a node, each with what stands around it."""
    parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("run", "exec")
            and ast.unparse(node.func.value) != "subprocess"
        ):
            yield node, parents.get(node)


def unheeded(function: ast.AST) -> list[int]:
    """The lines of commands whose status is looked at neither at once nor by the name that the result is given."""
    heeded = {
        node.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "status" and isinstance(node.value, ast.Name)
    }
    return [
        call.lineno
        for call, around in commands(function)
        if not (isinstance(around, ast.Attribute) and around.attr == "status")
        and not (isinstance(around, ast.Assign) and {name.id for name in around.targets if isinstance(name, ast.Name)} & heeded)
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_status_is_looked_at(function: ast.FunctionDef) -> None:
    assert unheeded(function) == [], "use node.succeed(...) or node.fail(...)"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_scenario_is_short_and_says_what_it_proves(function: ast.FunctionDef) -> None:
    assert function.end_lineno is not None
    assert function.end_lineno - function.lineno < _LINES
    words = ast.get_docstring(function)
    assert words, "say what it proves"
    assert not words.startswith("Without it")


def test_a_known_break_excuses_no_node_that_dies() -> None:
    assert ASSERTED.matches(AssertionError("the node's name is 'other\\n'"))
    assert not ASSERTED.matches(NodeFailure("kernel panic"))
    excusing = [word for file in FILES for word in ast.walk(ast.parse(file.read_text())) if is_excuse(word)]
    assert excusing
    assert {ast.unparse(word.value) for word in excusing} == {"ASSERTED"}


def is_excuse(word: ast.AST) -> TypeGuard[ast.keyword]:
    """Whether this says what a test marked `xfail` may raise."""
    return isinstance(word, ast.keyword) and word.arg == "raises"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("node.run('a')", [1]),
        ("assert node.run('a').text == ''", [1]),
        ("assert node.run('a').status == 0", []),
        ("done = node.run('a')\nassert done.text", [1]),
        ("done = node.exec('a')\nassert (done.status, done.text) == (0, '')", []),
        ("node.succeed('a')", []),
    ],
)
def test_a_status_that_nobody_looks_at_is_found(text: str, lines: list[int]) -> None:
    assert unheeded(ast.parse(text)) == lines
