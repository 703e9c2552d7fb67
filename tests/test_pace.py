"""Several tests at once begin with the longest, in one order for all workers; none is lost."""

import json

import pytest

from harness import pace
from harness.lab.admission import Need
from harness.lab.capacity import capacity

_CONFTEST = """
import pytest

pytest_plugins = ["harness.plugin"]


@pytest.fixture
def ready_node():
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    made = yield
    if item.name == "test_clone":
        made.sections.append(("artifacts of node-1", "here"))
    return made
"""
_TESTS = """
import pytest


@pytest.mark.parametrize("number", range(3))
def test_plain(number):
    pass


def test_clone(ready_node):
    pass


@pytest.mark.cold
def test_cold():
    pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeconftest(_CONFTEST)
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    pytester.makepyfile(test_it=_TESTS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(pytester.path))
    return pytester


def order(run: pytest.Pytester, *options: str) -> list[str]:
    done = run.runpytest("-v", *options)
    done.assert_outcomes(passed=5)
    lines = [line for line in done.stdout.lines if "PASSED" in line]
    return [next(word for word in line.split() if "::" in word).partition("::test_")[2] for line in lines]


def test_those_that_boot_come_first_where_nothing_is_known(run: pytest.Pytester) -> None:
    assert order(run, "-n", "1") == ["cold", "clone", "plain[0]", "plain[1]", "plain[2]"]
    assert order(run) == ["plain[0]", "plain[1]", "plain[2]", "clone", "cold"], "one process keeps the file's order"


def test_what_took_long_comes_first_the_next_time(run: pytest.Pytester) -> None:
    order(run, "-n", "1")
    file = run.path / "kios-e2e/durations.json"
    assert list(json.loads(file.read_text())) == ["test_it.py::test_clone"]
    file.write_text('{"test_it.py::test_clone": 99}')
    assert order(run, "-n", "1")[:2] == ["clone", "cold"]


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"a": "b"}'])
def test_a_file_of_anything_is_no_trouble(run: pytest.Pytester, content: str) -> None:
    (run.path / "kios-e2e").mkdir()
    (run.path / "kios-e2e/durations.json").write_text(content)
    assert order(run, "-n", "1")[0] == "cold"


@pytest.mark.parametrize(("gib", "cpus", "expected"), [(19, 2, 6), (1, 8, 1), (64, 8, 24), (3, 4, 2)])
def test_workers_are_as_many_as_memory_and_cpus_carry(gib: int, cpus: float, expected: int) -> None:
    assert pace.workers(Need(gib << 30, cpus)) == expected


@pytest.mark.parametrize("told", [None, "1"], ids=["the harness's", "the user's"])
def test_auto_is_as_many_workers_as_that(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, told: str | None) -> None:
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    if told:
        monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", told)
    count = int(told) if told else pace.workers(capacity())
    run.runpytest("-n", "auto").stdout.fnmatch_lines([f"*{count}/{count} worker*"])


def test_nothing_waits_behind_a_long_test(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_it="""
import time

import pytest


@pytest.mark.parametrize("number", range(40))
def test_some(number, ready_node):
    time.sleep(3.0 if number == 0 else 0.01)
"""
    )
    done = run.runpytest("-n", "2", "-v")
    done.assert_outcomes(passed=40)
    of_worker: dict[str, list[str]] = {}
    for line in done.stdout.lines:
        if "PASSED" in line:
            of_worker.setdefault(line.split()[0], []).append(line.rpartition("::")[2].strip())
    [its_own] = [tests for tests in of_worker.values() if "test_some[0]" in tests]
    # pytest-xdist leaves each worker one test behind the one that runs; by its other scheduler it would have five.
    assert len(its_own) <= 2
