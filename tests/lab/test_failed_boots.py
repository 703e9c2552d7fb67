"""What did not come up is said once in a run, by whichever of its processes, and blocks what would boot alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import NodeFailure
from harness.lab.failed_boots import Blocked, FailedBoots, Unnoted
from harness.lab.node import Node
from harness.verdict.timeline import Passed


def test_what_failed_in_one_process_is_blocked_in_all_of_the_run(tmp_path: Path) -> None:
    one, other = (FailedBoots(tmp_path / "failed", "run-1") for _ in range(2))
    other.check("key")
    one.note("key", "it panicked")
    one.note("key", "it panicked again")
    other.check("another key")
    with pytest.raises(Blocked, match=r"^it panicked$"):
        other.check("key")


def test_another_run_knows_nothing_of_it_and_removes_it(tmp_path: Path) -> None:
    FailedBoots(tmp_path, "run-1").note("key", "it panicked")
    later = FailedBoots(tmp_path, "run-2")
    later.check("key")
    later.note("key", "it reset")
    assert [file.name for file in tmp_path.iterdir()] == ["run-2-key"]


def test_a_folder_that_cannot_be_written_blocks_nothing() -> None:
    boots = FailedBoots(Path("/proc/failed"), "run")
    boots.note("key", "it panicked")
    boots.check("key")


def test_where_all_is_booted_anyway_nothing_is_blocked() -> None:
    Unnoted().note("key", "it panicked")
    Unnoted().check("key")


@pytest.mark.parametrize(
    ("passed", "noted"),
    [
        pytest.param([], True, id="not even the firmware"),
        pytest.param(["firmware", "kernel", "init"], True, id="init and no more"),
        pytest.param(["firmware", "kernel", "init", "console"], False, id="the harness's pod"),
        pytest.param(["kubelet-api"], False, id="a kubelet that answers"),
    ],
)
def test_only_a_boot_without_any_container_did_not_come_up(passed: list[str], noted: bool) -> None:
    told: list[str] = []

    def fail(_: object) -> None:
        raise NodeFailure("milestone init: the guest died")

    node: Any = SimpleNamespace(
        boot=SimpleNamespace(milestones=["init"]),
        wait=fail,
        timeline=lambda: [Passed(name, 1.0) for name in passed],
        _host=SimpleNamespace(heard_firmware=lambda _: None),
        when_it_did_not_come_up=told.append,
    )
    node._did_not_come_up = lambda: Node._did_not_come_up(node)
    with pytest.raises(NodeFailure):
        Node.wait_until_ready(node)
    assert bool(told) is noted


_CONFTEST = """
import pytest
from harness.errors import NodeFailure

pytest_plugins = ["harness.plugin"]

@pytest.fixture
def boot(failed_boots):
    def booted(key):
        failed_boots.check(key)
        failed_boots.note(key, "kios.img did not come up: it panicked")
        raise NodeFailure("it panicked")
    return booted
"""


@pytest.mark.parametrize(
    ("options", "ended"),
    [
        pytest.param([], {"failed": 1, "blocked": 3}, id="alone"),
        pytest.param(["-n", "2", "--dist", "loadfile"], {"failed": 1, "blocked": 3}, id="with workers"),
        pytest.param(["--boot-anyway"], {"failed": 4}, id="anyway"),
    ],
)
def test_one_test_fails_and_the_others_are_blocked(
    pytester: pytest.Pytester, options: list[str], ended: dict[str, int]
) -> None:
    pytester.makeconftest(_CONFTEST)
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\njunit_family = xunit2\n")
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(boot, n):\n    boot('image')")
    run = pytester.runpytest("--junitxml", "junit.xml", *options)
    assert {name: count for name, count in run.parseoutcomes().items() if name not in ("warnings",)} == ended
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    if "blocked" in ended:
        run.stdout.fnmatch_lines(["tests were blocked: kios.img did not come up: it panicked"])
        assert 'skipped="3"' in (pytester.path / "junit.xml").read_text()
