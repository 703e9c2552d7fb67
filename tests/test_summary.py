"""What a run tells: parties in the terminal and in JUnit's XML, and the line in which a test asked for too much."""

import http.client
import ssl
import urllib.error
import xml.etree.ElementTree as ET
from email.message import Message
from pathlib import Path

import paramiko
import pexpect
import pytest

from harness.errors import EXIT_STATUS, Party
from harness.summary import blamed

_TEST = """
from harness.errors import HarnessError, InputError, NodeFailure

def ask():
    raise {raised}

def test_it({fixture}):
    ask()
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("pytest_plugins = ['harness.plugin']")
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\njunit_family = xunit2\n")
    return pytester


def case_in(folder: Path) -> ET.Element:
    case = ET.parse(folder / "junit.xml").getroot().find(".//testcase")
    assert case is not None
    return case


def test_a_name_that_xml_cannot_have_is_a_property_all_the_same(run: pytest.Pytester) -> None:
    name = "kios\x1b\udcff\ufffe<.img"
    run.makepyfile(f"from harness.summary import describe\ndef test_it(request): describe(request.node, {name!r}, {name!r})")
    run.runpytest("--junitxml", "junit.xml").assert_outcomes(passed=1)
    [told] = case_in(run.path).iter("property")
    assert told.get("name") == "kios\\x1b\\udcff\\ufffe<.img"


@pytest.mark.parametrize(
    ("raised", "tag", "party", "words"),
    [
        pytest.param("NodeFailure('it died')", "failure", "node", "*the node", id="the node"),
        pytest.param("HarnessError('no space left')", "error", "host", "*the host: the harness could not tell*", id="the host"),
        pytest.param("InputError('no such pod')", "error", "test", "*the test, or what was handed to it", id="the test"),
    ],
)
def test_a_failure_names_the_party_at_fault(run: pytest.Pytester, raised: str, tag: str, party: str, words: str) -> None:
    run.makepyfile(_TEST.format(raised=raised, fixture=""))
    ended = run.runpytest("--junitxml", "junit.xml")
    ended.assert_outcomes(**{"failure": {"failed": 1}, "error": {"errors": 1}}[tag])
    ended.stdout.fnmatch_lines([words])
    case = case_in(run.path)
    assert [child.tag for child in case if child.tag != "properties"] == [tag]
    assert [entry.get("value") for entry in case.iter("property") if entry.get("name") == "at fault"] == [party]
    suite = ET.parse(run.path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == (("1", "0") if tag == "failure" else ("0", "1"))


def test_a_node_that_fails_in_a_fixture_is_a_failure_too(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest
        from harness.errors import NodeFailure

        @pytest.fixture
        def node():
            raise NodeFailure("it died")

        def test_it(node):
            pass
        """
    )
    ended = run.runpytest("--junitxml", "junit.xml")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["*the node"])
    assert [child.tag for child in case_in(run.path) if child.tag != "properties"] == ["failure"]


@pytest.mark.parametrize("raised", ["NodeFailure", "HarnessError"])
def test_what_a_fixture_raises_at_the_end_is_one_case(run: pytest.Pytester, raised: str) -> None:
    run.makepyfile(
        f"""
        import pytest
        from harness.errors import {raised}

        @pytest.fixture
        def node():
            yield
            raise {raised}("it did not end")

        def test_it(node):
            pass
        """
    )
    run.runpytest("--junitxml", "junit.xml").assert_outcomes(passed=1, errors=1)
    cases = ET.parse(run.path / "junit.xml").getroot().findall(".//testcase")
    assert {case.get("name") for case in cases} == {"test_it"}


_FULL_IMAGE = """
from uuid import UUID
from harness.storage.ext4 import Superblock

def test_it():
    Superblock(1024, 9000, 8, 100, UUID(int=0), "", True, False, 0).check_room(9, 1)
"""
_CUT_OFF = """
import errno
from pathlib import Path
from types import SimpleNamespace
from harness.lab.questions import Questions

class Asked(Questions):
    boot = SimpleNamespace(run=None)

def refuse():
    raise OSError(errno.ECONNRESET, "the network is gone")

def test_it():
    asked = Asked()
    asked.boot = SimpleNamespace(kubelet=SimpleNamespace(changes=refuse), capture=Path("none"))
    asked.pods()
"""
_WRONG_QUESTION = """
from pathlib import Path
from harness.storage import ext4

def test_it():
    ext4.read_superblock(Path("/dev/null"), "no number")
"""
_WRONG_CONDITION = """
from harness.verdict.feed import Feed
from harness.verdict.judge import Judge, Patience

def is_there():
    raise KeyError("lease")

def test_it():
    Judge(Feed()).wait(lambda _: False, Patience(1, 1), condition=is_there)
"""


@pytest.mark.parametrize(
    ("test", "options", "is_shown"),
    [
        pytest.param(_FULL_IMAGE, (), False, id="a verdict on the node"),
        pytest.param(_CUT_OFF, (), False, id="one with a cause"),
        pytest.param(_FULL_IMAGE, ("--full-trace",), True, id="asked for"),
        pytest.param(_WRONG_CONDITION, (), False, id="a fault of the test's"),
        pytest.param(_WRONG_QUESTION, (), True, id="a fault of the harness's, or one that it does not know"),
    ],
)
def test_where_in_the_harness_it_was_found_is_shown_where_that_helps(
    run: pytest.Pytester, test: str, options: tuple[str, ...], is_shown: bool
) -> None:
    run.makepyfile(test)
    ended = run.runpytest(*options)
    ended.assert_outcomes(failed=1)
    said = ended.stdout.str()
    assert ("/harness/" in said) == is_shown
    assert ": in test_it" in said or "def test_it" in said


@pytest.mark.parametrize(
    ("raised", "party"),
    [
        (paramiko.SSHException("EOF"), Party.NODE),
        (pexpect.TIMEOUT("no login:"), Party.NODE),
        (pexpect.EOF("the console ended"), Party.NODE),
        (ConnectionResetError(104, "reset"), Party.NODE),
        (TimeoutError("timed out"), Party.NODE),
        (ssl.SSLEOFError(8, "EOF"), Party.NODE),
        (http.client.RemoteDisconnected("no answer"), Party.NODE),
        (http.client.BadStatusLine("SSH-2.0"), Party.NODE),
        (urllib.error.HTTPError("http://127.0.0.1/", 500, "broken", Message(), None), Party.NODE),
        (AssertionError("no"), Party.NODE),
        (KeyError("x"), Party.TEST),
        (FileNotFoundError(2, "no such file"), Party.TEST),
    ],
)
def test_what_a_scenario_raised_by_itself_has_a_party(raised: Exception, party: Party) -> None:
    assert blamed(raised, "call") is party
    assert blamed(raised, "setup") is Party.TEST


def test_a_file_of_tests_that_is_refused_says_why_and_no_traceback(run: pytest.Pytester) -> None:
    run.makepyfile("from harness.errors import InputError\nraise InputError('node.yaml:7: hostNetwrok is no field of a pod')\n")
    ended = run.runpytest()
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["node.yaml:7: hostNetwrok is no field of a pod", "*at fault*", "the test, or what was handed*"])
    ended.stdout.no_fnmatch_line("*raise InputError*")


@pytest.mark.parametrize("fixture", ["full_disk", "full_cache"])
def test_a_full_disk_is_the_hosts_wherever_it_was_found(run: pytest.Pytester, fixture: str) -> None:
    run.makepyfile(
        """
        import errno, os
        import pytest
        from harness.summary import VOID

        @pytest.fixture
        def full_disk(request):
            request.node.stash[VOID] = lambda: "no space is left in /tmp/run"

        @pytest.fixture
        def full_cache():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/x")

        def test_it(FIXTURE):
            assert not "the shell's input/output error"
        """.replace("FIXTURE", fixture)
    )
    ended = run.runpytest("--junitxml", "junit.xml")
    ended.assert_outcomes(errors=1)
    words = {"full_disk": "no space is left in /tmp/run", "full_cache": "*No space left on device: '/cache/x'"}[fixture]
    ended.stdout.fnmatch_lines([words])
    ended.stdout.fnmatch_lines(["*the host: the harness could not tell*"])
    assert [entry.get("value") for entry in case_in(run.path).iter("property") if entry.get("name") == "at fault"] == ["host"]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("OSError(24, 'Too many open files')", "*Too many open files"),
        ("OSError(12, 'Cannot allocate memory')", "*Cannot allocate memory"),
        ("OSError(27, 'File too large')", "*File too large"),
        ("MemoryError()", "MemoryError"),
        ('RuntimeError("can\'t start new thread")', "can't start new thread"),
    ],
)
def test_what_the_host_has_run_out_of_is_the_hosts(run: pytest.Pytester, raised: str, words: str) -> None:
    run.makepyfile(_TEST.format(raised=raised, fixture=""))
    ended = run.runpytest()
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines([words, "*the host: the harness could not tell*"])
    assert ended.ret == EXIT_STATUS[Party.HOST]


def test_the_same_under_xdist(run: pytest.Pytester) -> None:
    run.makepyfile(_TEST.format(raised="HarnessError('no space left')", fixture=""))
    run.runpytest("--junitxml", "junit.xml", "-n", "1").assert_outcomes(errors=1)
    assert case_in(run.path).find("error") is not None


def test_the_harness_shows_the_tests_line_and_no_traceback(run: pytest.Pytester) -> None:
    run.makepyfile(other="from harness.errors import HarnessError\ndef ask():\n    raise HarnessError('no space left')")
    run.makepyfile("import other\n\ndef test_it():\n    other.ask()")
    ended = run.runpytest()
    ended.stdout.fnmatch_lines(["no space left", "", "asked for at test_*.py:4: other.ask()"])
    ended.stdout.no_fnmatch_line("*raise HarnessError*")


_OF_EACH = """
import pytest
from harness.errors import HarnessError, InputError, NodeFailure

def test_good(): pass
def test_node(): raise NodeFailure("it died")
def test_host(): raise HarnessError("no tools")
def test_test(): raise InputError("no such pod")
def test_other(): assert 1 == 2
def test_killed(): __import__("os").kill(__import__("os").getpid(), 9)

@pytest.fixture
def host(): raise HarnessError("no tools")
def test_fixture(host): pass
"""


@pytest.mark.parametrize(
    ("which", "status"),
    [
        ("good", 0),
        ("node or host or test_test", 1),
        ("other or host", 1),
        ("host or good", 11),
        ("fixture", 11),
        ("host or test_test", 11),
        ("test_test or good", 12),
        ("nothing", 5),
    ],
)
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "a worker"])
def test_the_status_tells_who_is_at_fault(run: pytest.Pytester, which: str, status: int, workers: tuple[str, ...]) -> None:
    run.makepyfile(test_it=_OF_EACH)
    assert run.runpytest("-k", which.replace("good", "test_good"), *workers).ret == status


def test_a_test_that_takes_its_worker_with_it_tells_nothing_of_a_node(run: pytest.Pytester) -> None:
    run.makepyfile(test_it=_OF_EACH)
    assert run.runpytest("-k", "killed", "-n", "1").ret == 11


def test_an_assertion_of_somebody_elses_test_is_left_alone(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(): assert 1 == 2")
    ended = run.runpytest("--junitxml", "junit.xml")
    ended.assert_outcomes(failed=1)
    ended.stdout.no_fnmatch_line("*at fault*")
    assert not list(case_in(run.path).iter("property"))


def test_the_header_says_what_is_under_test(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(): pass")
    run.runpytest("--artifacts", "left").stdout.fnmatch_lines(["kios-e2e: tests the reference image; artifacts: left"])


@pytest.mark.parametrize("asked", ["test_nothing.py", "test_it.py::test_nothing"])
def test_what_workers_cannot_find_is_said(run: pytest.Pytester, asked: str) -> None:
    run.makepyfile(test_it="def test_it(): pass")
    ended = run.runpytest("-n", "2", asked)
    assert ended.ret
    said = [line for line in ended.outlines if line.startswith("ERROR: ") and asked.split("::")[0] in line]
    assert len(said) == 1, ended.outlines


_HOSTILE = """
import pytest
from harness.errors import NodeFailure
from harness.summary import VOID

SAID = "\\x1b]0;it is well\\x07\\x9b2J\\u202e"

@pytest.fixture(autouse=True)
def with_a_node(request):
    request.node.stash[VOID] = str

def test_verdict():
    raise NodeFailure(f"`cat log` ended with status 1: {SAID}")

def test_assertion():
    assert SAID + "a" == SAID + "b"

def test_cause():
    try:
        raise ValueError(SAID)
    except ValueError as cause:
        raise KeyError("lease") from cause

def test_fail():
    pytest.fail(SAID)
"""


def test_what_a_node_wrote_reaches_no_terminal_as_it_is(run: pytest.Pytester) -> None:
    run.makepyfile(_HOSTILE)
    ended = run.runpytest("-vv", "--color=no")
    ended.assert_outcomes(failed=3, errors=1)
    shown = ended.stdout.str()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert shown.count("\\x1b]0;it is well\\x07\\x9b2J\\u202e") > 4


def test_what_a_run_tells_is_escaped(run: pytest.Pytester) -> None:
    run.makepyfile("from harness.summary import tell\ndef test_it(request): tell(request.config, 'kubelet v1.3\\x1b[2J')")
    assert "kubelet v1.3\\x1b[2J" in run.runpytest().outlines
