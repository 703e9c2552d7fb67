"""The fault matrix: every scenario has a row, each failure seen is its row's alone, and the page shows the table."""

import ast
import re
from pathlib import Path

import pytest

from faults import ledger, matrix
from faults.fault import Fault
from faults.sabotage import Qemu
from faults.table import FAMILIES, FAULTS, SHORT
from faults.verdict import also_matched
from harness.wire.wire import Wire

PROJECT = Path(__file__).parents[2]
SEEN = ledger.read(PROJECT / "faults/seen.json")


def scenarios() -> list[str]:
    return [
        f"{file.name}::{node.name}"
        for file in sorted((PROJECT / "scenarios").glob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def marked(mark: str) -> set[str]:
    return {
        f"{file.name}::{node.name}"
        for file in (PROJECT / "scenarios").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith(f"pytest.mark.{mark}") for decorator in node.decorator_list)
    }


# Those that fail on every image by now are seen to fail without a fault.
@pytest.mark.parametrize("scenario", sorted({*scenarios()} - marked("xfail")))
def test_every_scenario_has_a_fault(scenario: str) -> None:
    assert scenario in {each.scenario.partition("[")[0] for each in FAULTS.values()}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_of_a_scenario(name: str) -> None:
    assert FAULTS[name].scenario.partition("[")[0] in scenarios()


def test_there_are_as_many_as_were_promised_each_with_a_name_of_its_own() -> None:
    assert len(FAULTS) == sum(map(len, FAMILIES.values())) >= 120


@pytest.mark.parametrize("name", [name for name, each in FAULTS.items() if isinstance(each.how, Qemu)])
def test_another_command_line_is_for_nodes_that_boot(name: str) -> None:
    assert FAULTS[name].scenario in marked("cold")


# Of the wire's verbs, those that break or bend something.
_VERBS = {
    *("unplug", "flap", "block", "drop", "lose", "delay", "slow", "duplicate", "reorder", "corrupt", "mtu"),
    *("dhcp", "occupy", "dns", "ntp"),
}
_OTHERS = {
    *("plug", "unblock", "is_unplugged", "redirect", "serve", "join", "say", "reach", "forward", "forwarded", "insert_card"),
    "close",
}
_EDITS = ("with_another_xid", "for_another_client", "relayed", "overloaded", "as_bootp")


@pytest.mark.parametrize("verb", [*sorted(_VERBS), *_EDITS, "Status", "Slow", "Truncated", "Corrupt"])
def test_every_verb_of_the_wire_has_a_fault_and_is_told_of(verb: str) -> None:
    calls = {ast.unparse(node) for node in ast.walk(ast.parse((PROJECT / "faults/networks.py").read_text()))}
    assert any(f"node.wire.{verb}(" in each or each == verb for each in calls)
    assert re.search(rf"`{verb}\b", (PROJECT / "docs/wire.md").read_text())


def test_no_verb_of_the_wire_is_forgotten() -> None:
    assert {name for name in vars(Wire) if not name.startswith("_")} == _VERBS | _OTHERS


def test_every_fault_was_seen_caught_and_named() -> None:
    assert [name for name in FAULTS if not (name in SEEN and SEEN[name].is_named)] == []


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_could_be_of_no_other_fault(name: str) -> None:
    assert SEEN[name].is_named, SEEN[name].wrong
    assert also_matched(name, SEEN[name].line, FAULTS) == ""
    assert re.search(FAULTS[name].words, SEEN[name].line), "it was seen in other words than it has by now"


def test_the_page_has_the_table() -> None:
    assert matrix.page(SEEN) == (PROJECT / "docs/faults.md").read_text()


def test_the_short_list_is_of_the_table() -> None:
    assert set(SHORT) <= FAULTS.keys()


def test_a_fault_that_must_not_be_noticed_has_no_words() -> None:
    def has_words(fault: Fault) -> bool:
        return bool(fault.words)

    assert all(has_words(fault) == (fault.party is not None) for fault in FAULTS.values())
