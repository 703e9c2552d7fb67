"""Records a run, as it goes, in the journal among its artifacts (see `journal`): part of the plugin."""

import importlib.metadata
import inspect
import os
import platform
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness import options
from harness.errors import HarnessError, Party, words_of
from harness.journal.entry import Began, Booted, Ended, Entry, Finished, LeftOut, Planned, Stage, Started
from harness.journal.journal import Journal
from harness.lab.artifacts import taken
from harness.lab.boot import Boot
from harness.lab.failed_boots import Blocked
from harness.lab.node import Node
from harness.summary import NO_PROOF, blamed, party_in, party_of
from harness.verdict.feed import QemuExit

_RUN, _COMMAND = "kios-e2e-run", "kios-e2e-command"
# A test that uses this fixture has nodes, or may have them; a run without such tests keeps no journal.
_WITH_ARTIFACTS = "artifacts_root"
_MOST_WORDS, _MOST_SENTENCE = 20_000, 2_000
_ROOT = Path(__file__).parent.parent
_TEMPLATE = "template"
# The verdict on a test that does not apply to the image: `known` or `elsewhere`.
NEVER_PROMISED = pytest.StashKey[str]()


class Scribe:
    """Keeps the journal of one process of a run. A controller of pytest-xdist writes what its workers cannot."""

    def __init__(self, config: pytest.Config) -> None:
        given: Mapping[str, str] = getattr(config, "workerinput", {})
        self.run = given.get(_RUN, uuid.uuid4().hex)
        self._command = given.get(_COMMAND, shlex.join(["python", "-m", "pytest", *map(str, config.invocation_params.args)]))
        self._config = config
        self._process = str(given.get("workerid", "main"))
        self._open = ExitStack()
        self._root: Path | None = None
        self._journal: Journal | None = None
        self._artifacts: Mapping[str, Path] = {}
        self._tests: dict[str, _Test] = {}
        self._is_part = False
        self._others: set[str] = set()
        self._left_out: dict[str, str] = {}

    def root(self) -> Path:
        """The folder of this run's artifacts, to which no other run writes; raises InputError if it cannot be written."""
        if self._root is None:
            self._root = self._open.enter_context(taken(self._config.getoption("artifacts").absolute(), self.run))
        return self._root

    def note(self, entry: Entry) -> None:
        """Writes an entry to the journal, if the run keeps one."""
        if self._journal:
            self._journal.write(entry)

    def note_boots(self, test: str, nodes: Iterable[Node]) -> None:
        """Records every boot of a test's nodes, which have ended."""
        if self._journal:
            for node in nodes:
                for number, boot in enumerate(node.boots, start=1):
                    self._journal.write(_booted(test, node, number, boot, self._journal.relative(boot.artifacts)))

    def leave_to_other_shards(self, items: Iterable[pytest.Item]) -> None:
        """Takes the tests that other shards run: if any needs nodes, this run keeps a journal even without such a test."""
        self._others = {item.nodeid for item in items if _has_nodes(item)}
        self._is_part = bool(self._others)

    def leave_out(self, items: Iterable[pytest.Item], tier: str = "") -> None:
        """Takes the tests that this run leaves out, and the tier that lacks them."""
        for item in items:
            if _has_nodes(item) and item.nodeid not in self._others:
                self._left_out.setdefault(item.nodeid, tier)

    def leave_artifacts(self, test: str, folder: Path) -> None:
        """Takes the folder of a test's artifacts."""
        self._artifacts = {**self._artifacts, test: folder}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Tells a worker of pytest-xdist the run that it belongs to."""
        node.workerinput.update({_RUN: self.run, _COMMAND: self._command})  # type: ignore[attr-defined] # xdist's

    @pytest.hookimpl
    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Takes the tests that an option such as -k leaves out; those of tiers and shards it has already."""
        self.leave_out(items)

    @pytest.hookimpl
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Begins the journal, with the tests that are to run."""
        has_nodes = self._is_part or any(map(_has_nodes, session.items))
        if _runs_no_test(session.config) or not has_nodes:
            return
        self._begin_journal()
        if self._process in ("main", "gw0"):
            self.note(
                Began(
                    self.run,
                    time.time(),
                    self._command,
                    commit(),
                    self._config.getoption("shard") or "",
                    options.dimensions(self._config),
                    _host(),
                )
            )
            for item in session.items:
                self.note(_planned(item))
            for test, tier in self._left_out.items():
                self.note(LeftOut(test, tier))

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Records that a test was started, so that one that never ends is known."""
        self._tests[nodeid] = _Test()
        if not _is_controller(self._config):
            self.note(Started(nodeid, time.time(), self._process))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Takes the result of one phase of a test."""
        report = yield
        self._tests.setdefault(item.nodeid, _Test()).take(report, call, item.stash.get(NEVER_PROMISED, "skipped"))
        return report

    @pytest.hookimpl
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Records how a test ended."""
        test = self._tests.pop(nodeid, None)
        if test and self._journal and not _is_controller(self._config):
            folder = self._artifacts.get(nodeid)
            self.note(test.ended(nodeid, self._journal.relative(folder) if folder else ""))

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Records a test that crashed its worker, which only pytest-xdist's controller knows of."""
        if _is_controller(self._config) and report.when not in ("setup", "call", "teardown"):
            self._begin_journal()
            words = str(report.longrepr)
            self.note(Ended(report.nodeid, "error", time.time(), Party.HOST, words.splitlines()[0] if words else "", words))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Learns from a worker that there is a journal."""
        if getattr(node, "workeroutput", {}).get(_RUN):
            self._begin_journal()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Generator[None, None, None]:
        """Tells a worker's controller that there is a journal; ends the journal of a run that was not cut off."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_RUN] = self._journal is not None
        yield
        if not hasattr(session.config, "workerinput"):
            self.note(Finished(time.time(), int(exitstatus)))

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        """Releases the folder of artifacts."""
        self._open.close()
        self._journal = None

    def _begin_journal(self) -> None:
        if self._journal is None:
            try:
                self._journal = Journal(self.root(), self.run)
            except HarnessError:
                # The first test that asks for artifacts says why.
                return
            self._open.callback(self._journal.close)


SCRIBE = pytest.StashKey[Scribe]()


class _Test:
    """What is known of a running test."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._verdict, self._party, self._words = "passed", "", ""

    def take(self, report: pytest.TestReport, call: pytest.CallInfo[None], skipped: str) -> None:
        """Takes the result of a phase; the first that went wrong counts. `skipped` is the verdict if the test is skipped."""
        self._seconds[report.when] = round(report.duration, 3)
        if self._verdict != "passed" or report.passed:
            return
        raised = call.excinfo.value if call.excinfo else None
        if report.skipped:
            reason = report.longrepr
            self._words = str(reason[2] if isinstance(reason, tuple) else reason)
            self._verdict = "blocked" if isinstance(raised, Blocked) else skipped
            if hasattr(report, "wasxfail"):
                self._verdict, self._words = "known", report.wasxfail
        else:
            party = party_in(report) or blamed(raised, report.when)
            self._verdict, self._party = ("failed" if party is Party.NODE else "error"), party
            why_void = dict(report.sections).get(NO_PROOF)
            self._words = why_void or (
                _words(call.excinfo) if raised and party_of(raised) else f"{_words(call.excinfo)}\n\n{report.longreprtext}"
            )

    def ended(self, test: str, artifacts: str) -> Ended:
        words = self._words.removeprefix("Skipped: ")
        sentence = words.removeprefix("AssertionError: ").partition("\n")[0][:_MOST_SENTENCE]
        return Ended(
            test, self._verdict, time.time(), self._party, sentence, words[:_MOST_WORDS], dict(self._seconds), artifacts
        )


def commit() -> str:
    """The harness's commit, marked if files differ from it; its version if it is not a checkout."""
    try:
        asked = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=12", "--dirty=, changed since", "--exclude=*"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode == 0 and (_ROOT / ".git").exists():
            return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return f"version {importlib.metadata.version('kios-e2e')}"


def _planned(item: pytest.Item) -> Planned:
    function = getattr(item, "function", None)
    module = getattr(item, "module", None)
    mark = item.get_closest_marker("machine")
    return Planned(
        item.nodeid,
        _sentence(inspect.getdoc(module) or ""),
        inspect.getdoc(function) or "",
        _source(function),
        {name: str(value) for name, value in mark.kwargs.items()} if mark else {},
    )


def _sentence(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _source(function: object) -> str:
    try:
        return inspect.getsource(function)  # type: ignore[arg-type] # TypeError for what has none
    except (OSError, TypeError):
        return ""


def _has_nodes(item: pytest.Item) -> bool:
    return _WITH_ARTIFACTS in getattr(item, "fixturenames", ())


def _runs_no_test(config: pytest.Config) -> bool:
    """Whether pytest only shows what it would do: then no test passes, and what an earlier run left stays."""
    # --setup-plan implies --setup-only.
    return bool(config.getoption("collectonly") or config.getoption("setuponly", False))


def _is_controller(config: pytest.Config) -> bool:
    return config.pluginmanager.has_plugin("dsession")


def _words(raised: pytest.ExceptionInfo[BaseException] | None) -> str:
    if raised is None:
        return ""
    return words_of(raised.value) if party_of(raised.value) else raised.exconly()


def _booted(test: str, node: Node, number: int, boot: Boot, artifacts: str) -> Booted:
    ended = next((each for _, each in boot.feed.entries(0)[0] if isinstance(each, QemuExit)), None)
    machine = node.order.machine
    frozen = boot.frozen
    start = "clone" if frozen else "template" if node.name.startswith(_TEMPLATE) else "cold"
    return Booted(
        test=test,
        node=node.name,
        number=number,
        at=time.time() - (time.monotonic() - boot.started),
        seconds=round((ended.at if ended else time.monotonic()) - boot.started, 3),
        start=start,
        template=frozen.state.parent.name if frozen else "",
        stages=[Stage(entry.name, round(entry.after, 3), entry.frozen) for entry in boot.timeline()],
        budgets={milestone.name: round(boot.budget(milestone), 1) for milestone in boot.milestones},
        machine={
            "disk-size": str(machine.disk_size),
            "sector-size": str(machine.sector_size),
            "memory": str(machine.memory),
            "cpus": str(machine.cpus),
            "nic": machine.nic,
        },
        status=ended.status if ended else None,
        artifacts=artifacts,
    )


def _host() -> dict[str, str]:
    """A description of this host, for readers of a report elsewhere."""
    models = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "name": platform.node(),
        "CPUs": f"{len(os.sched_getaffinity(0))} x {models[1] if models else platform.machine()}",
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{release.get('PRETTY_NAME', platform.system())}, Linux {platform.release()}",
    }
