"""The table of breaks: every scenario has one, each failure seen is that break's alone, and the page shows the table."""

import ast
import json
import re
from pathlib import Path

import pytest

from breaks.__main__ import table
from breaks.ending import Ending, also_matched, ending_in, fault_in, line_of
from breaks.table import BREAKS, SHORT

PROJECT = Path(__file__).parents[2]
SEEN = json.loads((PROJECT / "breaks/seen.json").read_text())
_REPORT = '<testsuites><testsuite><testcase name="a">{}</testcase></testsuite></testsuites>'


def scenarios() -> list[str]:
    return [
        f"{file.name}::{node.name}"
        for file in sorted((PROJECT / "scenarios").glob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def known_faults() -> set[str]:
    """Scenarios that fail on every image by now, in the words of their mark: they are seen to fail without a break."""
    return {
        f"{file.name}::{node.name}"
        for file in (PROJECT / "scenarios").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith("pytest.mark.xfail") for decorator in node.decorator_list)
    }


@pytest.mark.parametrize("scenario", sorted({*scenarios()} - known_faults()))
def test_every_scenario_has_a_break(scenario: str) -> None:
    assert scenario in {each.scenario.partition("[")[0] for each in BREAKS.values()}


@pytest.mark.parametrize("name", BREAKS)
def test_every_break_is_of_a_scenario(name: str) -> None:
    assert BREAKS[name].scenario.partition("[")[0] in scenarios()


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_of_a_break_could_be_of_no_other(name: str) -> None:
    assert re.search(BREAKS[name].words, SEEN[name]), "run it again: python -m breaks " + name
    assert also_matched(name, SEEN[name]) == ""


def test_the_page_has_the_table() -> None:
    assert table() in (PROJECT / "docs/scenarios.md").read_text()


def test_the_short_list_is_of_the_table() -> None:
    assert set(SHORT) <= BREAKS.keys()


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        (Ending("passed"), "NOT CAUGHT"),
        (Ending("skipped", "no page"), "NOT CAUGHT"),
        (Ending("failure", "something else"), "MISNAMED: without the words"),
        (Ending("failure", "there is also sh; the default route is '10"), "MISNAMED: it could be dhcp-route as well"),
    ],
)
def test_what_is_no_catch_is_said(ending: Ending, fault: str) -> None:
    assert fault_in("boot-bin", ending).startswith(fault)


def test_a_failure_in_its_own_words_is_a_catch() -> None:
    ending = Ending("failure", "AssertionError: there is also sh\nassert False")
    assert fault_in("boot-bin", ending) == ""
    assert line_of("boot-bin", ending.words) == "AssertionError: there is also sh"


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        ("", "passed"),
        ('<failure message="m">t</failure>', "failure"),
        ('<error message="m"/>', "error"),
        ("<skipped/>", "skipped"),
    ],
)
def test_how_a_scenario_ended_is_read_from_junit(inner: str, kind: str) -> None:
    assert ending_in(_REPORT.format(inner)).kind == kind
