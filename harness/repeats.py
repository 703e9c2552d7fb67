"""Tests that are run more than once (`--repeat N`): each time is a test of its own, and the summary has each test's rate.

Nothing is run again because it failed: flakes are counted, not hidden.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import pytest

from harness.journal import gathering, journal
from harness.journal.gathering import Attempt, OneBoot
from harness.scribe import Scribe

_FIXTURE = "_time_of_many"
# The id of a test with parameters, as an argument of pytest.
_WITH_PARAMETERS = re.compile(r"(.*::.*\[.*)\]")


class Repeats:
    """The hooks of a run with `--repeat`."""

    def __init__(self, times: int, scribe: Scribe) -> None:
        self._times, self._scribe = times, scribe

    @pytest.hookimpl
    def pytest_collection(self, session: pytest.Session) -> None:
        """Replaces an id with parameters by the ids of all its times, each of which has the time as its last parameter."""
        session.config.args[:] = [each for arg in session.config.args for each in self._times_of(arg)]

    @pytest.hookimpl(trylast=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Makes one test for each time."""
        metafunc.fixturenames.append(_FIXTURE)
        metafunc.parametrize(_FIXTURE, self._names(), ids=self._names())

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Says how often each test passed, and when its boots passed their milestones."""
        if not journal.any_in([self._scribe.root()]):
            return
        known, run = gathering.gather([self._scribe.root()]), self._scribe.run
        terminalreporter.section(f"{self._times} times each")
        attempts = [each for each in known.attempts if each.run == run]
        boots = [each for each in known.boots if each.run == run]
        for line in table(attempts, boots):
            terminalreporter.write_line(line)

    def _names(self) -> list[str]:
        return [f"{number}of{self._times}" for number in range(1, self._times + 1)]

    def _times_of(self, arg: str) -> list[str]:
        if not (test := _WITH_PARAMETERS.fullmatch(arg)):
            return [arg]
        return [f"{test[1]}-{name}]" for name in self._names()]


def table(attempts: Iterable[Attempt], boots: Iterable[OneBoot]) -> Iterator[str]:
    """Yields lines: each test's rate and seconds, then its boots' milestones, each with median, minimum and maximum."""
    of_test: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        of_test[attempt.ended.test].append(attempt)
    passed_at: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for boot in boots:
        for stage in boot.booted.stages:
            if not stage.frozen:
                passed_at[boot.booted.test][stage.name].append(stage.after)
    for test, found in sorted(of_test.items()):
        seconds = [sum(each.ended.seconds.values()) for each in found]
        yield f"{test}: {', '.join([*_counts(Counter(each.ended.verdict for each in found)), _spread(seconds)])}"
        for name, after in passed_at[test].items():
            yield f"  {name}: {_spread(after)}, {len(after)} boots"


def _counts(verdicts: Counter[str]) -> Iterator[str]:
    """Yields the rate of those that were tried, and how many ended otherwise: what was skipped did not fail."""
    passed = verdicts.pop("passed", 0)
    if tried := passed + verdicts["failed"] + verdicts["error"]:
        yield f"{passed} of {tried} passed ({100 * passed / tried:.0f} %)"
    yield from (f"{count} {verdict}" for verdict, count in verdicts.items() if count)


def _spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
