"""The one answer: what is known to be bad outranks what could not be told, and skipped is never green."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.journal.entry import Began, Ended, Planned
from harness.journal.gathering import PLAIN, UNDER_TEST, Attempt, Gathering, Run
from harness.qualification.answer import Answer, Word, decide
from harness.qualification.canary import Canary

CAUGHT = Canary("order", "order.py::test", "no parted", True, "it fails")
MISSED = Canary("clock", "clone.py::test", "another year", False, "NOT CAUGHT: it passed")


def gathering(*ends: tuple[str, str], undone: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> Gathering:
    attempts = [Attempt("r", PLAIN, Ended(test, verdict, 1.0, sentence=f"{test} said so"), Path()) for test, verdict in ends]
    planned = {test: Planned(test) for test in (*(test for test, _ in ends), *undone)}
    return Gathering([Run(Began("r", 0.0), Path(), 2.0, 0, undone)], planned, attempts, missing=missing)


def test_all_that_was_promised_holds() -> None:
    assert decide(gathering(("a", "passed"), ("b", "passed")), [CAUGHT]) == Answer(
        Word.QUALIFIED, "2 promises proven on 1 machine; 1 of 1 canary caught"
    )


@pytest.mark.parametrize(
    ("found", "canaries", "word", "why"),
    [
        pytest.param(gathering(("a", "failed"), ("b", "error")), [MISSED], Word.NOT_QUALIFIED, "a: a said so", id="known bad"),
        pytest.param(gathering(("a", "error")), [CAUGHT], Word.COULD_NOT_TELL, "a: a said so", id="an error"),
        pytest.param(gathering(("a", "passed")), [], Word.COULD_NOT_TELL, "no canary was run", id="no canary"),
        pytest.param(gathering(("a", "passed")), [CAUGHT, MISSED], Word.COULD_NOT_TELL, "clock was not caught", id="missed"),
        pytest.param(gathering(("a", "skipped")), [CAUGHT], Word.COULD_NOT_TELL, "nothing proved a (a said so)", id="skipped"),
        pytest.param(gathering(undone=("a",)), [CAUGHT], Word.COULD_NOT_TELL, "a was not run to its end", id="undone"),
        pytest.param(
            gathering(("a", "passed"), missing=("shard 2/2",)),
            [CAUGHT],
            Word.COULD_NOT_TELL,
            "shard 2/2 is missing",
            id="shard",
        ),
        pytest.param(Gathering(), [CAUGHT], Word.COULD_NOT_TELL, "nothing was run", id="nothing"),
        pytest.param(gathering(("a", "passed"), ("a", "failed")), [CAUGHT], Word.NOT_QUALIFIED, "a said so", id="a flake"),
    ],
)
def test_anything_else_says_why(found: Gathering, canaries: list[Canary], word: Word, why: str) -> None:
    answer = decide(found, canaries)
    assert answer.word is word
    assert why in answer.why


def test_failures_of_one_cause_are_said_once() -> None:
    ends = [
        Ended(test, "failed", 1.0, sentence=why)
        for test, why in (("a", "a lone one"), ("b", "no EFI binary"), ("c", "no EFI binary"))
    ]
    found = replace(gathering(), attempts=[Attempt("r", PLAIN, each, Path()) for each in [*ends, *ends]])
    answer = decide(found, [CAUGHT])
    assert answer.reasons == ["2 promises: no EFI binary", "a: a lone one"]
    assert answer.why == "2 promises: no EFI binary (and 1 more cause)"


def test_what_could_not_be_told_is_listed_behind_what_failed() -> None:
    found = gathering(("a", "failed"), undone=("b",), missing=("shard 2/2",))
    answer = decide(found, [MISSED], cut_short="it was interrupted")
    assert (answer.word, answer.why) == (Word.NOT_QUALIFIED, "a: a said so")
    assert answer.reasons == [
        "a: a said so",
        "it was interrupted",
        "shard 2/2 is missing",
        f"b was not run to its end on the machine {PLAIN}",
        "the canary clock was not caught and named: NOT CAUGHT: it passed",
    ]


def test_a_damaged_image_is_not_qualified_whatever_else_was_run() -> None:
    answer = decide(gathering(("a", "passed")), [CAUGHT], damage=["it is an empty file"])
    assert (answer.word, answer.why, answer.reasons) == (Word.NOT_QUALIFIED, "it is an empty file", ["it is an empty file"])


def test_what_is_known_not_to_hold_is_said_and_decides_nothing() -> None:
    answer = decide(gathering(("a", "passed"), ("b", "known"), ("c", "elsewhere")), [CAUGHT])
    assert answer.word is Word.QUALIFIED
    assert answer.why == "1 promise proven on 1 machine; known not to hold: 1; 1 of 1 canary caught"
    assert answer.known == ("b: b said so",)
    assert answer.unproven == ()


def test_a_machine_on_which_all_was_skipped_is_said_to_prove_nothing() -> None:
    there = gathering(("a", "passed"))
    other = Run(Began("o", 0.0, machine={"sector-size": "4096"}), Path(), 2.0, 0)
    skipped = Attempt("o", other.cell, Ended("a", "skipped", 1.0), Path())
    answer = decide(Gathering([*there.runs, other], there.planned, [*there.attempts, skipped]), [CAUGHT])
    assert answer.why == "1 promise proven on 1 machine; nothing proven on: sector-size 4096; 1 of 1 canary caught"


@pytest.mark.parametrize("verdict", ["skipped", "blocked"])
def test_what_nothing_proved_is_not_qualified(verdict: str) -> None:
    assert decide(gathering(("a", "passed"), ("b", verdict)), [CAUGHT]).unproven == ["b"]


def test_what_could_not_be_told_and_then_was_is_told() -> None:
    assert decide(gathering(("a", "error"), ("a", "passed")), [CAUGHT]).word is Word.QUALIFIED


def test_an_excused_test_need_not_be_proven() -> None:
    found = gathering(("page.py::test_the_page_runs", "skipped"), ("a", "passed"))
    assert decide(found, [CAUGHT]).word is Word.COULD_NOT_TELL
    assert decide(found, [CAUGHT], excused=["page.py"]).word is Word.QUALIFIED


def test_where_nothing_was_proven_nothing_could_be_told() -> None:
    assert decide(gathering(("b", "known"), ("c", "elsewhere")), [CAUGHT]).why == "nothing was proven"
    assert decide(gathering(("a", "skipped")), [CAUGHT], excused=["a"]).why == "nothing was proven"


@pytest.mark.parametrize("name", ["disk.py::test_grows[4096]", "test_grows[4096]", "grows", "disk.py::*"])
def test_a_test_is_excused_by_any_part_of_its_name(name: str) -> None:
    found = gathering(("a", "passed"), ("scenarios/disk.py::test_grows[4096]", "skipped"))
    assert decide(found, [CAUGHT], excused=[name]).word is Word.QUALIFIED


def test_the_brackets_of_an_excuse_are_no_wildcard() -> None:
    found = gathering(("a", "passed"), ("disk.py::test_grows[1024]", "skipped"))
    assert decide(found, [CAUGHT], excused=["disk.py::*[4096]"]).word is Word.COULD_NOT_TELL


def test_what_was_excused_is_counted() -> None:
    found = gathering(("page.py::test_the_page_runs", "skipped"), ("a", "passed"))
    why = decide(found, [CAUGHT], excused=["page.py"]).why
    assert why == "1 promise proven on 1 machine; excused: 1; 1 of 1 canary caught"


def runs(**second: Any) -> Gathering:
    """Two runs in which all holds, the second of which has something otherwise."""
    one = Run(Began("r", 0.0, harness="abc"), Path(), 2.0, 0, tested=frozenset({"1", "2"}))
    other = replace(one, **second)
    return replace(gathering(("a", "passed")), runs=[one, other])


def test_runs_of_one_thing_are_a_whole() -> None:
    assert decide(runs(), [CAUGHT]).word is Word.QUALIFIED
    # It came to no node, or only to some of them.
    assert decide(runs(tested=frozenset({"1"})), [CAUGHT]).word is Word.QUALIFIED


def test_an_answer_is_on_one_image_and_by_one_harness() -> None:
    assert decide(runs(tested=frozenset({"3"})), [CAUGHT]).why == "one run tested another image than another run"
    replaced = replace(runs(), facts={UNDER_TEST: {"kios.img": ["1", "3"]}})
    assert decide(replaced, [CAUGHT]).why == "kios.img had other bytes in one run than in another"
    assert decide(runs(began=Began("o", 0.0, harness="xyz")), [CAUGHT]).why == "the runs are by different harnesses: abc; xyz"


def test_a_status_that_no_test_explains_could_not_be_told() -> None:
    unexplained = decide(runs(began=Began("o", 0.0), status=1), [CAUGHT])
    assert unexplained.word is Word.COULD_NOT_TELL
    assert "ended with pytest's status 1, and none of its tests says why" in unexplained.why
    for status in (None, 0, 5):
        assert decide(runs(status=status), [CAUGHT]).word is Word.QUALIFIED


def test_a_run_that_was_cut_short_is_never_qualified() -> None:
    assert decide(gathering(("a", "passed")), [CAUGHT], cut_short="it was interrupted").why == "it was interrupted"
