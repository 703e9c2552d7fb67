"""A test that is run many times has its rate in the end, and no red one is made green."""

import json

import pytest

from harness.journal.gathering import gather, promise_of

_TESTS = """
import pytest

from harness.errors import NodeFailure

times = iter(range(1, 100))


def test_flaky(artifacts):
    if next(times) % 3 == 0:
        raise NodeFailure("milestone init: it did not happen")


@pytest.mark.parametrize("size", [4, 16])
def test_sound(artifacts, size):
    pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("pytest_plugins = ['harness.plugin']")
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    pytester.makepyfile(test_it=_TESTS)
    return pytester


def test_each_test_has_its_rate(run: pytest.Pytester) -> None:
    done = run.runpytest("--repeat", "6", "--junitxml", "junit.xml")
    done.assert_outcomes(passed=16, failed=2)
    assert done.ret == 1
    done.stdout.fnmatch_lines(
        ["*6 times each*", "*::test_flaky: 4 of 6 passed (67 %), *", "*::test_sound?4?: 6 of 6 passed (100 %), *"]
    )
    names = (run.path / "junit.xml").read_text()
    assert 'name="test_flaky[3of6]"' in names
    assert 'name="test_sound[16-6of6]"' in names
    known = gather([run.path / "artifacts"])
    assert sorted(known.planned) == [f"test_it.py::{name}" for name in ("test_flaky", "test_sound[16]", "test_sound[4]")]
    assert [run.undone for run in known.runs] == [[]]


def test_what_ended_otherwise_is_counted_by_itself(run: pytest.Pytester) -> None:
    run.makepyfile(
        test_it="""
            import pytest
            from harness.errors import HarnessError, NodeFailure

            times = iter([NodeFailure("it died"), HarnessError("no room"), None, pytest.skip.Exception("no module")])

            def test_mixed(artifacts):
                if ended := next(times):
                    raise ended

            @pytest.mark.skip(reason="no module")
            def test_skipped(artifacts):
                pass
            """
    )
    done = run.runpytest("--repeat", "4")
    done.stdout.fnmatch_lines(
        ["*::test_mixed: 1 of 3 passed (33 %), 1 failed, 1 error, 1 skipped, *", "*::test_skipped: 4 skipped, *"]
    )


def test_workers_share_the_times(run: pytest.Pytester) -> None:
    done = run.runpytest("--repeat", "4", "-n", "2", "-k", "sound")
    done.assert_outcomes(passed=8)
    done.stdout.fnmatch_lines(["*::test_sound?16?: 4 of 4 passed (100 %), *"])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_test_with_parameters_is_found_by_its_id(run: pytest.Pytester, workers: list[str]) -> None:
    run.runpytest("--repeat", "3", *workers, "test_it.py::test_sound[4]").assert_outcomes(passed=3)


def test_a_report_counts_the_times_as_attempts_of_one_promise(run: pytest.Pytester) -> None:
    from harness.report import binder

    run.runpytest("--repeat", "3")
    answer = binder.bind([run.path / "artifacts"], run.path / "out")
    assert answer.status == 1
    told = json.loads((run.path / "out/report.json").read_text())
    assert [[test.partition("::")[2], failed, attempts] for test, _, failed, attempts in told["flakes"]] == [
        ["test_flaky", 1, 3]
    ]


def test_none_at_all_is_refused(run: pytest.Pytester) -> None:
    run.runpytest("--repeat", "0").stderr.fnmatch_lines(["*--repeat takes 1 or more.*"])


@pytest.mark.parametrize(
    ("test", "promise"),
    [
        ("a.py::test_it", "a.py::test_it"),
        ("a.py::test_it[4]", "a.py::test_it[4]"),
        ("a.py::test_it[2of3]", "a.py::test_it"),
        ("a.py::test_it[4-2of3]", "a.py::test_it[4]"),
        ("a.py::test_it[a-b-10of30]", "a.py::test_it[a-b]"),
    ],
)
def test_a_time_of_many_is_one_of_a_promise(test: str, promise: str) -> None:
    assert promise_of(test) == promise
