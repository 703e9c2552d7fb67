"""What a run tells: who is at fault for a failure, and on what the nodes ran; in the terminal and in JUnit's XML."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from _pytest.junitxml import xml_key

from harness import options, space
from harness.errors import HarnessError, NodeFailure, Party
from harness.escape import shown
from harness.lab.failed_boots import Blocked

_HARNESS = Path(__file__).parent
AT_FAULT = "at fault"
_BLOCKED = "blocked"
_WORDS = {
    Party.NODE: "the node",
    Party.HOST: "the host: the harness could not tell how the node does",
    Party.TEST: "the test, or what was handed to it",
}
_TOLD = pytest.StashKey[list[str]]()
# Says why nothing that a test found proves anything, if there is a reason.
VOID = pytest.StashKey[Callable[[], str]]()


def party_of(failure: BaseException) -> Party | None:
    """Who an exception says is at fault; None for one that is not the harness's."""
    if space.is_lacking(failure):
        return Party.HOST
    return failure.party if isinstance(failure, HarnessError | NodeFailure) else None


def by_its_own(raised: BaseException, phase: str | None) -> Party:
    """Who is at fault for what a scenario raised by itself: an assertion speaks of the node, any other error of the test."""
    # What an sshd on the node answers is the node's word; its library is not imported for that.
    is_verdict = isinstance(raised, AssertionError | pytest.fail.Exception) or type(raised).__module__.startswith("paramiko.")
    return Party.NODE if is_verdict and phase == "call" else Party.TEST


def tell(config: pytest.Config, words: str) -> None:
    """Has a line stand once in the run's summary."""
    told = config.stash.setdefault(_TOLD, [])
    if words not in told:
        told.append(words)


def describe(item: pytest.Item, name: str, value: object) -> None:
    """Writes down a property of what a test ran on, for JUnit; a second one of that name is left out."""
    if name not in dict(item.user_properties):
        item.user_properties.append((name, str(value)))


def pytest_configure(config: pytest.Config) -> None:
    """Has JUnit's XML tell errors from failures."""
    config.pluginmanager.register(_JUnit(config))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says what is under test, as far as the options do, and of which generation of kiOS it is taken to be."""
    under_test = config.getoption("kios_efi") or config.getoption("kios_image") or "the reference image"
    belief = options.believed_generation(config)
    lines = [f"kios-e2e: tests {under_test}; artifacts: {config.getoption('artifacts')}"]
    return list(map(shown, [*lines, f"kios-e2e: {belief.words()}"] if belief else lines))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Says who is at fault; a failure of the harness comes with its reason alone: where in it that was found helps nobody."""
    if call.excinfo and (VOID in item.stash or party_of(call.excinfo.value) is Party.NODE):
        _escape(call.excinfo.value)
    if call.excinfo and not item.config.getoption("fulltrace"):
        _hide_harness(call.excinfo, item)
    report = yield
    if not (report.failed and call.excinfo):
        return report
    if isinstance(call.excinfo.value, Blocked):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{_BLOCKED}: {shown(str(call.excinfo.value))}")
        tell(item.config, f"tests were blocked: {shown(str(call.excinfo.value))}")
        return report
    party, full = party_of(call.excinfo.value), space.is_lacking(call.excinfo.value)
    if party is None and VOID in item.stash:
        party = by_its_own(call.excinfo.value, report.when)
    if (full or party is not Party.HOST) and (reason := item.stash.get(VOID, str)()):
        party = Party.HOST
        report.sections.insert(0, ("why it proves nothing", reason))
    if party:
        if isinstance(call.excinfo.value, HarnessError) or full:
            report.longrepr = f"{shown(str(call.excinfo.value))}{_asked_at(call.excinfo, item)}"
        report.sections.insert(0, (AT_FAULT, _WORDS[party]))
        item.user_properties.append((AT_FAULT, party.value))
        report.user_properties = list(item.user_properties)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Has the terminal say what could not be found: a worker of pytest-xdist keeps that for itself."""
    try:
        return (yield)
    except pytest.UsageError as refused:
        if hasattr(session.config, "workeroutput"):
            for words in refused.args:
                tell(session.config, f"ERROR: {words}")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file of tests that the harness refuses as it is read, as for a manifest of its, says why, and who is at fault."""
    report = yield
    call: pytest.CallInfo[object] | None = getattr(report, "call", None)
    if report.failed and call and call.excinfo and isinstance(refused := call.excinfo.value, HarnessError):
        report.longrepr = shown(str(refused))
        report.sections.insert(0, (AT_FAULT, _WORDS[refused.party]))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A test in which the harness could not tell is an error, wherever it ended; one that had no chance is blocked."""
    if report.skipped and isinstance(report.longrepr, tuple) and report.longrepr[2].startswith(f"{_BLOCKED}: "):
        return "blocked", "B", "BLOCKED"
    if report.when == "call" and _is_error(report):
        return "error", "E", "ERROR"
    return None


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends what a worker of pytest-xdist has to tell to the process that has the terminal."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["kios-e2e"] = session.config.stash.get(_TOLD, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes what a worker had to tell."""
    for words in getattr(node, "workeroutput", {}).get("kios-e2e", []):
        tell(node.config, words)  # type: ignore[attr-defined] # xdist's WorkerController has it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says on what the nodes ran."""
    for words in config.stash.get(_TOLD, []):
        terminalreporter.write_line(shown(words))


class _JUnit:
    """Makes an error of what pytest writes as a failure: by itself it knows errors in fixtures only."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        yield
        xml = self._config.stash.get(xml_key, None)
        if xml is None or report.when != "call" or not _is_error(report):
            return
        for element in xml.node_reporter(report).nodes:
            if element.tag == "failure":
                element.tag = "error"
                xml.stats["failure"] -= 1
                xml.stats["error"] += 1


def _hide_harness(raised: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> None:
    """Has pytest show where in the harness it was found only where the harness itself is what went wrong."""
    is_verdict = party_of(raised.value) is Party.NODE
    if is_verdict:
        # Its sentence has the words of what led to it.
        raised.value.__cause__, raised.value.__suppress_context__ = None, True
    for entry in raised.traceback:
        if _HARNESS in Path(entry.path).parents:
            entry.frame.f_globals["__tracebackhide__"] = is_verdict or Path(raised.traceback[-1].path) == item.path


def _escape(raised: BaseException | None) -> None:
    """Escapes what a node wrote: pytest shows the words of an exception, and of those behind it, as they are."""
    known: set[int] = set()
    while raised is not None and id(raised) not in known:
        known.add(id(raised))
        raised.args = tuple(shown(each) if isinstance(each, str) else each for each in raised.args)
        if isinstance(raised, pytest.fail.Exception):
            raised.msg = shown(str(raised.msg))
        raised = raised.__cause__ or raised.__context__


def _is_error(report: pytest.TestReport) -> bool:
    return report.failed and dict(report.user_properties).get(AT_FAULT) in (Party.HOST, Party.TEST)


def _asked_at(raised: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> str:
    """The line of the test from which the harness was called; nothing where a fixture was the one who called."""
    lines = [entry for entry in raised.traceback if entry.path == item.path]
    return f"\n\nasked for at {item.path.name}:{lines[-1].lineno + 1}: {str(lines[-1].statement).strip()}" if lines else ""
