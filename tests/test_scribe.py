"""What a run writes down, in a run of its own: how tests ended, who is at fault, what was left undone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from harness import scribe
from harness.journal import journal
from harness.journal.entry import Began, Ended, Entry, Finished, Planned, Started
from harness.verdict.feed import Feed
from harness.verdict.timeline import Milestone
from harness.vm.machine import Machine

_ROOT = Path(__file__).parents[1]
E = TypeVar("E", bound=Entry)
_TESTS = '''
"""What a user is promised."""

import pytest

from harness.errors import HarnessError, InputError, NodeFailure
from harness.lab.failed_boots import Blocked
from harness.scribe import NEVER_PROMISED


def test_good(artifacts):
    """It works; if not, nothing does."""


@pytest.mark.machine(cpus=2)
def test_bad(artifacts):
    raise NodeFailure("milestone init: it did not happen\\nreached: kernel")


def test_assertion(artifacts):
    assert 1 == 2, "there is also sh"


def test_host(artifacts):
    raise HarnessError("no space left")


def test_input(artifacts):
    raise InputError("no such pod")


def test_own(artifacts):
    {}["key"]


@pytest.mark.skip(reason="it lacks a module")
def test_skipped(artifacts):
    pass


@pytest.mark.xfail(raises=AssertionError, reason="kiOS is known not to")
def test_known(artifacts):
    assert False, "there is no way"


def test_limit(artifacts, request):
    request.node.stash[NEVER_PROMISED] = "known"
    pytest.skip("no disk")


def test_elsewhere(artifacts, request):
    request.node.stash[NEVER_PROMISED] = "elsewhere"
    pytest.skip("holds for generation B only")


def test_blocked(artifacts):
    raise Blocked("kios.img did not come up: a panic")


@pytest.fixture
def broken():
    raise NodeFailure("it never came up")


def test_setup(artifacts, broken):
    pass
'''
_PARTIES = {
    "good": ("passed", "", ""),
    "bad": ("failed", "node", "milestone init: it did not happen"),
    "assertion": ("failed", "node", "there is also sh"),
    "host": ("error", "host", "no space left"),
    "input": ("error", "test", "no such pod"),
    "own": ("error", "test", "KeyError: 'key'"),
    "skipped": ("skipped", "", "it lacks a module"),
    "known": ("known", "", "kiOS is known not to"),
    "limit": ("known", "", "no disk"),
    "elsewhere": ("elsewhere", "", "holds for generation B only"),
    "blocked": ("blocked", "", "blocked: kios.img did not come up: a panic"),
    "setup": ("failed", "node", "it never came up"),
}


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("pytest_plugins = ['harness.plugin']")
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    return pytester


def entries(folder: Path, kind: type[E]) -> list[E]:
    [file] = journal.found_in(folder / "artifacts")
    return [entry for entry in journal.read(file) if isinstance(entry, kind)]


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "workers"])
def test_each_test_has_its_verdict_and_party(run: pytest.Pytester, options: list[str]) -> None:
    run.makepyfile(test_it=_TESTS)
    run.runpytest(*options)
    ended = {
        entry.test.partition("::test_")[2]: (entry.verdict, entry.party, entry.sentence) for entry in entries(run.path, Ended)
    }
    assert ended == _PARTIES
    assert len(entries(run.path, Planned)) == len(entries(run.path, Started)) == len(_PARTIES)
    [began] = entries(run.path, Began)
    assert began.machine == {}
    [finished] = entries(run.path, Finished)
    assert (finished.status, finished.at >= began.at) == (1, True)


def test_what_proves_nothing_is_nobodys_failure_in_the_journal_either(run: pytest.Pytester) -> None:
    run.makepyfile("""
        from harness.errors import NodeFailure
        from harness.summary import VOID

        def test_it(artifacts, request):
            request.node.stash[VOID] = lambda: "QEMU died with status -9 (SIGKILL): without a word"
            raise NodeFailure("the kubelet does not list its pods")
        """)
    run.runpytest()
    [ended] = entries(run.path, Ended)
    assert (ended.verdict, ended.party) == ("error", "host")
    assert ended.sentence == "QEMU died with status -9 (SIGKILL): without a word"


def test_what_a_test_promises_and_asserts_is_there(run: pytest.Pytester) -> None:
    run.makepyfile(test_it=_TESTS)
    run.runpytest("-k", "good or bad", "--shard", "1/1", "--nic", "e1000e", "--memory", "4G", "--cold")
    good, bad = entries(run.path, Planned)
    assert (good.promise, good.proves) == ("What a user is promised.", "It works; if not, nothing does.")
    assert good.source.startswith("def test_good(artifacts):")
    assert bad.pins == {"cpus": "2"}
    [began] = entries(run.path, Began)
    assert (began.shard, began.machine) == ("1/1", {"nic": "e1000e", "memory": "4G", "start": "cold"})
    assert {entry.artifacts for entry in entries(run.path, Ended)} == {"test_it/test_good", "test_it/test_bad"}


def test_a_run_without_nodes_writes_nothing(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(): pass")
    run.runpytest()
    assert not (run.path / "artifacts").exists()


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--setup-only"])
def test_a_run_that_runs_no_test_proves_nothing_and_keeps_the_earlier_ones_journal(run: pytest.Pytester, option: str) -> None:
    run.makepyfile("def test_it(artifacts): assert False")
    run.runpytest()
    [earlier] = journal.found_in(run.path / "artifacts")
    run.runpytest(option)
    assert journal.found_in(run.path / "artifacts") == [earlier]
    assert [entry.verdict for entry in entries(run.path, Ended)] == ["failed"]


def test_a_worker_that_dies_is_an_error_of_the_hosts(run: pytest.Pytester) -> None:
    run.makepyfile("import os\ndef test_it(artifacts): os._exit(9)")
    run.runpytest("-n", "1", "--max-worker-restart", "0")
    [ended] = entries(run.path, Ended)
    assert (ended.verdict, ended.party) == ("error", "host")
    assert "crashed" in ended.sentence


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_what_was_done(run: pytest.Pytester, how: signal.Signals) -> None:
    run.makepyfile("import time\ndef test_one(artifacts): pass\ndef test_two(artifacts): time.sleep(60)")
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    running = subprocess.Popen(argv, cwd=run.path, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(_ROOT)})
    deadline = time.monotonic() + 60
    while not (list(run.path.glob("artifacts/journal-*")) and len(entries(run.path, Started)) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(how)
    running.wait(60)
    assert [entry.verdict for entry in entries(run.path, Ended)] == ["passed"]
    assert [entry.test for entry in entries(run.path, Started)][1].endswith("test_two")
    assert bool(entries(run.path, Finished)) == (how is signal.SIGINT)


def test_a_run_without_a_terminal_has_an_end_too(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(artifacts): assert False")
    assert run.runpytest("-p", "no:terminal").ret == 1
    [finished] = entries(run.path, Finished)
    assert finished.status == 1


def test_a_boots_budgets_are_those_of_its_waits() -> None:
    """They know since when a pod is waited for, and what the host has taken."""
    late = Milestone("late/main", lambda _: False, 180)
    boot: Any = SimpleNamespace(
        feed=Feed(), started=0.0, frozen=None, timeline=list, milestones=[late], budget=lambda _: 1180.0
    )
    node: Any = SimpleNamespace(name="node-1", order=SimpleNamespace(machine=Machine(1 << 30)), slowness=1.0)
    assert scribe._booted("a.py::test_it", node, 1, boot, "").budgets == {"late/main": 1180.0}
