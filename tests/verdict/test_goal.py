"""Goals, and that a text that they are said not to meet holds no line that meets them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.verdict.feed import ConsoleLine, ContainerState
from harness.verdict.goal import AnyOf, LineMatching, Unspoken, may_meet

_PATTERNS = [
    "a",
    "^a",
    "b$",
    "^$",
    r"\Aa",
    r"b\Z",
    r"a\b",
    r"a[^b]*c",
    r"a(?!b)",
    r"(?<!a)b",
    r"(?:a|b) c",
    r"a\s+b",
    r"a\Db",
    r"(?i)A",
    r"(?P<x>a)(?P=x)",
    "a.*b",
]


@given(st.sampled_from(_PATTERNS), st.lists(st.text("ab c", max_size=4), min_size=1, max_size=6))
def test_no_line_is_passed_over(pattern: str, lines: list[str]) -> None:
    goal = LineMatching(pattern)
    met = any(goal(ConsoleLine(line)) for line in lines)
    assert met == any(re.search(pattern, line) for line in lines)
    assert may_meet(goal, "\n".join(lines)) or not met


def test_a_plain_pattern_is_searched_in_many_lines_at_once() -> None:
    assert not may_meet(LineMatching("^unit"), "a unit\nof lines")
    assert may_meet(LineMatching("^unit"), "a\nunit of lines")


def test_a_state_is_met_by_no_line() -> None:
    goal = Unspoken(lambda _: True)
    assert goal(ContainerState("a", "b", "running"))
    assert not goal(ConsoleLine("running"))
    assert not may_meet(goal, "running")


@pytest.mark.parametrize(("text", "may"), [("x", True), ("y", False)])
def test_one_of_several_may_be_met(text: str, may: bool) -> None:
    assert may_meet(AnyOf([Unspoken(lambda _: True), LineMatching("x")]), text) == may


def test_a_function_may_be_met_by_anything() -> None:
    assert may_meet(lambda _: False, "text")
