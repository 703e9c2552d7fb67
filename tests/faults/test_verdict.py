"""The verdict on a broken scenario: read from JUnit, and held against the words, the party and the stage of its fault."""

import pytest

from faults import verdict
from faults.fault import Fault
from faults.sabotage import Edit
from faults.stage import Stage
from faults.verdict import Verdict
from harness.errors import Party

_REPORT = '<testsuites><testsuite><testcase name="a">{}</testcase></testsuite></testsuites>'
_AT_FAULT = '<properties><property name="at fault" value="host"/></properties>'
TABLE = {
    "shell": Fault("boot.py::a", Edit("a", "b"), "there is also sh"),
    "route": Fault("dhcp.py::a", Edit("a", "c"), "default route"),
    "firmware": Fault("boot.py::a", Edit("a", "e"), "there is", stage=Stage.BOOTING),
    "host": Fault("boot.py::a", Edit("a", "f"), "there is", Party.HOST),
    "home": Fault("boot.py::a", Edit("a", "d"), "", None),
    "same": Fault("dhcp.py::b", Edit("a", "b"), "also"),
}
GOOD = Verdict("failure", "AssertionError: there is also sh\nassert False", Party.NODE, Stage.READY)


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
    assert verdict.read(_REPORT.format(inner)).kind == kind


def test_party_stage_and_time_are_read() -> None:
    read = verdict.read(
        _REPORT.format(_AT_FAULT + '<error message="m">t</error>'), '{"stage": "on a ready node", "seconds": 1.5}'
    )
    assert (read.party, read.stage, read.seconds, read.words) == (Party.HOST, Stage.READY, 1.5, "m\nt")


@pytest.mark.parametrize(("tag", "party"), [("failure", Party.NODE), ("error", None)])
def test_a_failure_of_which_nothing_is_said_is_the_nodes(tag: str, party: Party | None) -> None:
    assert verdict.read(_REPORT.format(f'<{tag} message="m">t</{tag}>')).party is party


def test_a_report_of_nothing_is_no_verdict() -> None:
    assert verdict.read("<testsuites/>").kind == "nothing"


@pytest.mark.parametrize("kind", ["passed", "skipped", "nothing"])
def test_what_does_not_fail_is_not_caught(kind: str) -> None:
    assert not verdict.is_caught(TABLE["shell"], Verdict(kind))


@pytest.mark.parametrize(("kind", "held"), [("passed", True), ("failure", False), ("refused", False)])
def test_what_must_not_be_noticed_passes(kind: str, held: bool) -> None:
    assert verdict.is_caught(TABLE["home"], Verdict(kind)) is held


def test_what_must_not_be_noticed_is_taken_for_nothing() -> None:
    table = {**TABLE, "deep": Fault("boot.py::a", Edit("a", "g"), "", None)}
    assert verdict.also_matched("home", "", table) == ""


def test_a_failure_with_its_own_words_party_and_stage_is_named() -> None:
    assert verdict.is_caught(TABLE["shell"], GOOD)
    assert verdict.misnaming("shell", GOOD, TABLE) == ""
    assert verdict.line_of(TABLE["shell"], GOOD) == "AssertionError: there is also sh"


@pytest.mark.parametrize(
    ("ending", "wrong"),
    [
        (Verdict("failure", "something else", Party.NODE, Stage.READY), "without the words 'there is also sh'"),
        (Verdict("error", "there is also sh", Party.HOST, Stage.READY), "put down to host, not to node"),
        (Verdict("error", "there is also sh", None, Stage.READY), "put down to nobody, not to node"),
        (Verdict("failure", "there is also sh", Party.NODE, Stage.STARTING), "while its pods start, not on a ready node"),
        (Verdict("failure", "there is also sh, no default route", Party.NODE, Stage.READY), "it could be route as well"),
    ],
)
def test_what_is_wrong_with_a_verdict_is_said(ending: Verdict, wrong: str) -> None:
    assert verdict.misnaming("shell", ending, TABLE).startswith(wrong)


def test_a_long_line_is_cut_around_the_words() -> None:
    ending = Verdict("failure", "x" * 1000 + " there is also sh")
    line = verdict.line_of(TABLE["shell"], ending)
    assert line.endswith("there is also sh")
    assert len(line) <= 300
