"""A run of the matrix: a pytest of its own, whose report and status have to say the same."""

from pathlib import Path

import pytest

from faults import __main__ as faults
from faults.sabotage import Surroundings
from faults.verdict import Verdict
from harness.errors import Party
from harness.lab.generation import Generation

_ROOT = Path(__file__).parents[2]
_CONFTEST = """
pytest_plugins = ["harness.plugin"]
def pytest_sessionfinish(session): session.exitstatus = {status}
"""


@pytest.mark.parametrize(
    ("scenario", "generation", "is_lacking"),
    [
        ("in_memory.py::test_one", None, True),
        ("in_memory.py::test_one", Generation.A, True),
        ("in_memory.py::test_one", Generation.B, False),
        ("page.py::test_one", None, True),
        ("boot.py::test_one", None, False),
    ],
)
def test_what_would_be_skipped_is_not_run(scenario: str, generation: Generation | None, is_lacking: bool) -> None:
    assert faults.lacks(scenario, [], generation) is is_lacking


@pytest.mark.parametrize(("status", "kind"), [(0, "passed"), (3, "refused")])
def test_a_run_that_ended_badly_has_not_passed(status: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    (scenarios / "one.py").write_text("def test_one(): pass\n")
    (scenarios / "conftest.py").write_text(_CONFTEST.format(status=status))
    monkeypatch.setattr(faults, "_ROOT", tmp_path)
    around = Surroundings({"PYTHONPATH": str(_ROOT)})
    assert faults.verdict_on("one.py::test_one", {}, [], around, tmp_path).kind == kind


BUSY = Verdict("error", "it did not happen within 60 s, and the host was too busy: QEMU waited 43 s more", Party.HOST)
NAMED = Verdict("failure", "marks are missing: it did not happen within 60 s", Party.NODE)
DIED = Verdict("error", "QEMU died with status -9", Party.HOST)


@pytest.mark.parametrize(
    ("runs", "told"), [([NAMED], NAMED), ([BUSY, NAMED], NAMED), ([BUSY, BUSY, NAMED], BUSY), ([DIED, NAMED], DIED)]
)
def test_a_host_that_was_too_busy_gives_a_fault_a_second_run_and_no_third(runs: list[Verdict], told: Verdict) -> None:
    left = iter(runs)
    assert faults.on_a_host_with_time(lambda: next(left)) == told
