"""Progress: milestones as they come, a word when nothing comes, and silence of what is ready."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from harness import progress
from harness.progress import Progress, last_words
from harness.verdict.timeline import Passed


@dataclass
class Slow:
    name: str = "node-1"
    started: float | None = None
    passed: list[Passed] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def timeline(self) -> Sequence[Passed]:
        return self.passed

    def awaited(self) -> Sequence[str]:
        return self.left


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.1)


def said_while(node: Slow, seconds: float, milestones: bool) -> list[str]:
    said: list[str] = []
    with Progress(said.append, lambda: milestones).watching("test_it", [node]):
        time.sleep(seconds)
    return [line.lstrip("\n") for line in said]


def test_each_milestone_has_a_line_where_that_is_asked_for() -> None:
    node = Slow(started=time.monotonic(), passed=[Passed("firmware", 3.4), Passed("kernel", 5)])
    assert said_while(node, 0.05, True) == [
        "kios-e2e: test_it: node-1: firmware after 3 s",
        "kios-e2e: test_it: node-1: kernel after 5 s",
    ]


def test_a_quiet_boot_says_where_it_is_and_what_is_next() -> None:
    node = Slow(started=time.monotonic() - 45, passed=[Passed("kernel", 5)], left=["node/dhcpcd", "node/parted"])
    said = said_while(node, 0.05, False)
    assert said == ["kios-e2e: test_it: node-1: at kernel, 45 s since its start; next is node/dhcpcd"]


def test_it_is_said_again_only_after_a_while() -> None:
    began = time.monotonic()
    said = said_while(Slow(started=began, left=["firmware"]), 0.35, False)
    # A busy host makes the while longer.
    assert 2 <= len(said) <= (time.monotonic() - began) / 0.1


@pytest.mark.parametrize(
    "node",
    [
        Slow(),
        Slow(started=0.0, passed=[Passed("kernel", 5)]),
        Slow(started=0.0, passed=[Passed("kernel", 5, frozen=True)]),
    ],
    ids=["not started", "ready", "a clone"],
)
def test_what_waits_for_nothing_says_nothing(node: Slow) -> None:
    assert said_while(node, 0.05, False) == []


def test_what_is_frozen_is_no_news() -> None:
    assert said_while(Slow(started=0.0, passed=[Passed("kernel", 5, frozen=True)]), 0.05, True) == []


def test_the_last_words_on_each_test_are_found_in_a_runs_output() -> None:
    said: list[str] = []
    progress = Progress(said.append, lambda: True)
    for words in (
        "tests kios.img; artifacts: here",
        "test_it[a: b]: node-1: firmware after 3 s",
        "test_it[a: b]: node-1: at kernel, 21 s since its start; next is init",
        "test_other: template-2: kernel after 4 s",
    ):
        progress.say(words)
    assert last_words("\n".join(["..", *said, "."])) == {
        "test_it[a: b]": "node-1: at kernel, 21 s since its start; next is init",
        "test_other": "template-2: kernel after 4 s",
    }
