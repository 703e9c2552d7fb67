"""How much of a folder of scenarios a tier runs, and what becomes of the rest."""

from pathlib import Path

import pytest

from harness.journal import journal
from harness.journal.entry import LeftOut, Planned

_TESTS = """
import pytest
@pytest.mark.presubmit
def test_one(artifacts_root): pass
@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.presubmit), 4])
def test_two(artifacts_root, size): pass
def test_three(artifacts_root): pass
def test_of_no_node(): pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest('pytest_plugins = ["harness.plugin"]')
    return pytester


def _noted(project: pytest.Pytester, *options: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Which tests a run is to run, and those it leaves out, each with the tier that does so."""
    project.runpytest_subprocess("--artifacts", "out", *options).assert_outcomes(passed=2)
    [file] = journal.found_in(project.path / "out")
    entries = list(journal.read(file))
    planned = [entry.test.partition("::")[2] for entry in entries if isinstance(entry, Planned)]
    return planned, [(entry.test.partition("::")[2], entry.tier) for entry in entries if isinstance(entry, LeftOut)]


def test_presubmit_runs_what_is_marked_and_says_what_it_leaves_out(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_TESTS)
    marked, others = ["test_one", "test_two[2]"], [("test_two[4]", "presubmit"), ("test_three", "presubmit")]
    assert _noted(project, "--tier", "presubmit") == (marked, others)
    assert _noted(project, "--tier", "presubmit", "-n", "2") == (marked, others)


def test_what_an_option_leaves_out_is_no_tiers(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_TESTS)
    assert _noted(project, "-k", "two") == (["test_two[2]", "test_two[4]"], [("test_one", ""), ("test_three", "")])


@pytest.mark.parametrize("tier", ["nightly", "release"])
def test_other_tiers_run_all(project: pytest.Pytester, tier: str) -> None:
    project.makepyfile(test_it=_TESTS)
    project.runpytest_subprocess("--artifacts", "out", "--tier", tier).assert_outcomes(passed=5)


def test_scenarios_that_know_no_tiers_are_run_as_a_whole(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="def test_a(artifacts_root): pass\ndef test_b(artifacts_root): pass")
    assert _noted(project, "--tier", "presubmit") == (["test_a", "test_b"], [])


def test_another_shards_tests_are_not_left_out(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="\n".join(f"def test_{number}(artifacts_root): pass" for number in range(12)))
    whole = {f"test_{number}" for number in range(12)}
    for shard in ("1/2", "2/2"):
        done = project.runpytest_subprocess("--artifacts", f"out-{shard[0]}", "--shard", shard)
        assert done.ret == 0
        [file] = journal.found_in(project.path / f"out-{shard[0]}")
        entries = list(journal.read(file))
        whole -= {entry.test.partition("::")[2] for entry in entries if isinstance(entry, Planned)}
        assert not [entry for entry in entries if isinstance(entry, LeftOut)]
    assert not whole
