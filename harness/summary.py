"""What a run tells, in the terminal, in JUnit's XML and by its status: who is at fault, and on what the nodes ran."""

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from _pytest.junitxml import xml_key

from harness import options
from harness.errors import EXIT_STATUS, HarnessError, NodeFailure, Party, is_shortage, words_of
from harness.escape import shown
from harness.lab.failed_boots import Blocked

_HARNESS = Path(__file__).parent
AT_FAULT = "at fault"
NO_PROOF = "why it proves nothing"
_BLOCKED = "blocked"
# The modules of clients with which a test may ask its node: they are not imported for this.
_CLIENTS = ("http.client", "paramiko", "pexpect", "ssl", "urllib.error")
_WORDS = {
    Party.NODE: "the node",
    Party.HOST: "the host: the harness could not tell how the node does",
    Party.TEST: "the test, or what was handed to it",
}
_TOLD = pytest.StashKey[list[str]]()
# Says why nothing that a test found proves anything; empty if there is no such reason.
VOID = pytest.StashKey[Callable[[], str]]()


def party_of(failure: BaseException) -> Party | None:
    """Who an exception of the harness's says is at fault; None for any other exception."""
    if is_shortage(failure):
        return Party.HOST
    return failure.party if isinstance(failure, HarnessError | NodeFailure) else None


def blamed(raised: BaseException | None, phase: str | None) -> Party:
    """Who is at fault for what was raised in a phase of a test; the host if the test ended without raising anything.

    Of what a scenario raises itself, an assertion is about the node, and so is what a client of the scenario's own hears of it;
    any other error is about the test.
    """
    if raised is None:
        return Party.HOST
    is_verdict = isinstance(raised, AssertionError | pytest.fail.Exception | ConnectionError | TimeoutError)
    is_verdict = is_verdict or f"{type(raised).__module__}.".startswith(tuple(f"{client}." for client in _CLIENTS))
    return party_of(raised) or (Party.NODE if is_verdict and phase == "call" else Party.TEST)


def party_in(report: pytest.TestReport) -> Party | None:
    """Who is at fault, as a report says it; None where it does not."""
    told = dict(report.user_properties).get(AT_FAULT)
    return Party(str(told)) if told else None


def tell(config: pytest.Config, words: str) -> None:
    """Adds a line to the run's summary, once."""
    told = config.stash.setdefault(_TOLD, [])
    if words not in told:
        told.append(words)


def describe(item: pytest.Item, name: str, value: object) -> None:
    """Records a property of what a test ran on, for JUnit; the first one of a name counts."""
    # pytest escapes what XML cannot have in a value alone, and a file's name may have anything.
    name = shown(name)
    if name not in dict(item.user_properties):
        item.user_properties.append((name, str(value)))


def pytest_configure(config: pytest.Config) -> None:
    """Makes JUnit's XML, and the exit status, tell errors from failures."""
    config.pluginmanager.register(_JUnit(config))
    config.pluginmanager.register(_Status())


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Says what is under test, as far as the options tell, and which generation of kiOS it is taken for."""
    under_test = config.getoption("kios_efi") or config.getoption("kios_image") or "the reference image"
    belief = options.believed_generation(config)
    lines = [f"kios-e2e: tests {under_test}; artifacts: {config.getoption('artifacts')}"]
    return list(map(shown, [*lines, f"kios-e2e: {belief.words()}"] if belief else lines))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Says who is at fault; a HarnessError is shown without its traceback, which would help nobody."""
    if call.excinfo and (VOID in item.stash or party_of(call.excinfo.value) is Party.NODE):
        _escape(call.excinfo.value)
    if call.excinfo and not item.config.getoption("fulltrace", False):
        _hide_harness(call.excinfo, item)
    report = yield
    if not (report.failed and call.excinfo):
        return report
    if isinstance(call.excinfo.value, Blocked):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{_BLOCKED}: {shown(str(call.excinfo.value))}")
        tell(item.config, f"tests were blocked: {shown(str(call.excinfo.value))}")
        return report
    party, is_short = party_of(call.excinfo.value), is_shortage(call.excinfo.value)
    if party is None and VOID in item.stash:
        party = blamed(call.excinfo.value, report.when)
    if (is_short or party is not Party.HOST) and (reason := item.stash.get(VOID, str)()):
        party = Party.HOST
        report.sections.insert(0, (NO_PROOF, reason))
    if party:
        if isinstance(call.excinfo.value, HarnessError) or is_short:
            report.longrepr = f"{shown(words_of(call.excinfo.value))}{_asked_at(call.excinfo, item)}"
        report.sections.insert(0, (AT_FAULT, _WORDS[party]))
        item.user_properties.append((AT_FAULT, party.value))
        report.user_properties = list(item.user_properties)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Shows in the terminal what could not be collected: a worker of pytest-xdist would keep that to itself."""
    try:
        return (yield)
    except pytest.UsageError as refused:
        if hasattr(session.config, "workeroutput"):
            for words in refused.args:
                tell(session.config, f"ERROR: {words}")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Says why the harness refused a file of tests as it was read, as for a manifest in it, and who is at fault."""
    report = yield
    call: pytest.CallInfo[object] | None = getattr(report, "call", None)
    if report.failed and call and call.excinfo and isinstance(refused := call.excinfo.value, HarnessError):
        report.longrepr = shown(str(refused))
        report.sections.insert(0, (AT_FAULT, _WORDS[refused.party]))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Counts as a failure what a node did, also in a fixture's set-up, and as an error what could not be told.

    A test without a chance counts as blocked.
    """
    if report.skipped and isinstance(report.longrepr, tuple) and report.longrepr[2].startswith(f"{_BLOCKED}: "):
        return "blocked", "B", "BLOCKED"
    if report.when == "call" and _is_error(report):
        return "error", "E", "ERROR"
    if report.when == "setup" and _is_failure(report):
        return "failed", "F", "FAILED"
    return None


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends a pytest-xdist worker's lines to the process that has the terminal."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["kios-e2e"] = session.config.stash.get(_TOLD, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes a worker's lines."""
    for words in getattr(node, "workeroutput", {}).get("kios-e2e", []):
        tell(node.config, words)  # type: ignore[attr-defined] # xdist's WorkerController has it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Writes the lines of the summary."""
    for words in config.stash.get(_TOLD, []):
        terminalreporter.write_line(shown(words))


class _JUnit:
    """Has failures for nodes and errors for what could not be told; pytest itself has errors for all that fixtures raise."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        yield
        xml = self._config.stash.get(xml_key, None)
        # What a fixture raises at a test's end is written by now, and stays an error.
        if xml is None or report.when not in ("setup", "call") or not (_is_error(report) or _is_failure(report)):
            return
        wrong, right = ("failure", "error") if _is_error(report) else ("error", "failure")
        for element in xml.node_reporter(report).nodes:
            if element.tag == wrong:
                element.tag = right
                xml.stats[wrong] -= 1
                xml.stats[right] += 1


class _Status:
    """Makes a status of its own of a run in which no node failed, and yet something did: CI need not read words for that."""

    def __init__(self) -> None:
        self._at_fault: set[Party] = set()

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            # What is no test of the harness's fails as ever; one that took its worker with it tells nothing of any node.
            of_worker = Party.HOST if report.when not in ("setup", "call", "teardown") else Party.NODE
            self._at_fault.add(party_in(report) or of_worker)

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.TESTS_FAILED and self._at_fault:
            session.exitstatus = min(EXIT_STATUS[party] for party in self._at_fault)


def _hide_harness(raised: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> None:
    """Hides the harness's own frames in a traceback, unless the harness itself is what went wrong."""
    is_verdict = party_of(raised.value) is Party.NODE
    if is_verdict:
        # A verdict's sentence already says what led to it.
        raised.value.__cause__, raised.value.__suppress_context__ = None, True
    for entry in raised.traceback:
        if _HARNESS in Path(entry.path).parents:
            entry.frame.f_globals["__tracebackhide__"] = is_verdict or Path(raised.traceback[-1].path) == item.path


def _escape(raised: BaseException | None) -> None:
    """Escapes what a node wrote: pytest shows the words of an exception, and of its causes, as they are."""
    known: set[int] = set()
    while raised is not None and id(raised) not in known:
        known.add(id(raised))
        raised.args = tuple(shown(each) if isinstance(each, str) else each for each in raised.args)
        if isinstance(raised, pytest.fail.Exception):
            raised.msg = shown(str(raised.msg))
        raised = raised.__cause__ or raised.__context__


def _is_error(report: pytest.TestReport) -> bool:
    return report.failed and party_in(report) in (Party.HOST, Party.TEST)


def _is_failure(report: pytest.TestReport) -> bool:
    return report.failed and party_in(report) is Party.NODE


def _asked_at(raised: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> str:
    """The line of the test from which the harness was called; empty if a fixture called it."""
    lines = [entry for entry in raised.traceback if entry.path == item.path]
    return f"\n\nasked for at {item.path.name}:{lines[-1].lineno + 1}: {str(lines[-1].statement).strip()}" if lines else ""
