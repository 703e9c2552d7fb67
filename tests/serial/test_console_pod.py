"""Lines of the console pod, as its console.c writes them, and what follows from them for a wait."""

import pytest

from harness.serial import console_pod
from harness.verdict.feed import ConsoleLine, ConsolePodOpen, ContainerState, Happening
from harness.verdict.judge import wait
from harness.verdict.outcome import Contradicted, Met, TooLate
from harness.verdict.situation import Awaited
from harness.verdict.timeline import container_done
from tests.verdict.heard import NOW, fed, never

# A pod of which nothing is started again: its first failure is its last.
_NODE = Awaited("node", "default", "Never")


read = console_pod.reader("5a17")


def line(status: int, words: str = "words", pod: str = "node", namespace: str = "default") -> Happening:
    told = f"kios-e2e 5a17: container parted of pod {namespace}/{pod} ended with status {status}: {words}"
    state = read(ConsoleLine(told, at=7.0))
    assert state is not None
    return state


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(": no such disk", "no such disk", id="words"),
        pytest.param(": ", "", id="no words"),
        pytest.param(":", "", id="no words, and the blank before them lost"),
        pytest.param(": cannot open: busy: ended with status 0: no", "cannot open: busy: ended with status 0: no", id="colons"),
        pytest.param(":   late  \t", "late", id="blanks"),
    ],
)
def test_an_end_is_read(text: str, reason: str) -> None:
    told = ConsoleLine(f"kios-e2e 5a17: container parted of pod kube-system/a.node-1 ended with status 137{text}", at=7.0)
    assert read(told) == ContainerState(
        pod="a.node-1",
        namespace="kube-system",
        container="parted",
        state="terminated",
        reason=reason,
        exit_code=137,
        at=7.0,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kios-e2e: the console is open",
        "kios-e2e 0000: the console is open",
        "kios-e2e: container a of pod b/c ended with status 1: without the token",
        "kios-e2e 0000: container a of pod b/c ended with status 1: with another token",
        "# kios-e2e 5a17: container a of pod b/c ended with status 1: quoted",
        "kios-e2e 5a17: container a of pod b ended with status 1: of no namespace",
        "kios-e2e 5a17: container a of pod b/c ended with status : ",
        "kios-e2e 5a17: container a of pod b/c ended with status x: ",
        "kios-e2e 5a17: container  of pod b/c ended with status 1: ",
        "kios-e2e 5a17: container a of pod b/c ended with status 1",
    ],
)
def test_another_line_tells_of_no_container(text: str) -> None:
    assert read(ConsoleLine(text)) is None


def test_its_greeting_opens_the_console() -> None:
    assert read(ConsoleLine("kios-e2e 5a17: the console is open", at=7.0)) == ConsolePodOpen("ttyS0", at=7.0)
    assert console_pod.greeting("5a17") == "kios-e2e 5a17: the console is open"


def test_a_failure_on_the_console_ends_the_wait_for_its_pod() -> None:
    outcome = wait(fed(line(1, "no such disk")), never, NOW, needed=[_NODE])
    assert isinstance(outcome, Contradicted)
    assert outcome.by == "container parted of pod node ended with status 1: no such disk"


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(line(1, pod="other"), id="another pod's failure"),
        pytest.param(line(0), id="an end that is none"),
    ],
)
def test_a_wait_goes_on_at(told: Happening) -> None:
    assert wait(fed(told), never, NOW, needed=[_NODE]) == TooLate(0)


def test_status_0_is_work_done() -> None:
    assert wait(fed(line(0)), container_done("default", "node", "parted"), NOW, needed=[_NODE]) == Met(line(0))


@pytest.mark.parametrize(
    ("pod", "container", "status"),
    [("node", "parted", 1), ("other", "parted", 0), ("node", "dhcp", 0)],
    ids=["status 1", "another pod", "another container"],
)
def test_work_is_not_done_by(pod: str, container: str, status: int) -> None:
    assert not container_done("default", pod, container)(line(status))
