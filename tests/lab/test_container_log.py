"""The words of a container whose node says nothing any more, on its disk: a real ext4, under a disk of the run's own."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import tools
from harness.errors import HarnessError, NodeFailure
from harness.guest.kubelet import StatusError
from harness.lab import container_log, evidence, pod_logs
from harness.lab.evidence import Heard, Witnesses
from harness.lab.node import Folders, Node
from harness.serial.result import Result
from harness.storage import gpt, overlay
from harness.verdict.outcome import Contradicted, GuestDied, Stalled
from harness.vm.machine import Machine

_START, _SIZE = 1 << 20, 6 << 20
_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_LINE = "2026-01-01T00:00:00.1Z stderr F {}\n"
_MODPROBE = ("kube-system", "node", "modprobe")
_FATE = "container modprobe of pod node ended with status 1: Error"
_LOGS = {
    "kube-system_node_7f/modprobe/10.log": _LINE.format("modprobe: the third"),
    "kube-system_node_7f/modprobe/9.log": _LINE.format("modprobe: the second"),
    "kube-system_node_7f/modprobe/0.log": _LINE.format("modprobe: the first"),
    "kube-system_node_7f/dhcpcd/0.log": _LINE.format("dhcpcd: no carrier"),
    "default_node_1/modprobe/0.log": _LINE.format("another's"),
    "kube-system_torn_1/main/0.log": "no line of CRI's\n",
}


def dead(*_: object) -> Any:
    raise HarnessError("the node does not answer")


class FakeNode(Node):
    """A node that was never booted, with a real disk over a real image."""

    def __init__(self, folder: Path) -> None:
        order: Any = SimpleNamespace(machine=Machine(16 << 20))
        nothing: Any = None
        super().__init__(order, nothing, nothing, Folders(folder / "node", folder / "artifacts"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """One whose data partition has logs, and a journal that awaits its replay, as after a power cut."""
    for name, text in _LOGS.items():
        file = tmp_path / "tree/meta/log/pods" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    raw = tmp_path / "kios.img"
    raw.write_bytes(bytes(8 << 20))
    layout = f"label: gpt\nstart={_START // 512}, size={_SIZE // 512}, type={gpt.DATA_PARTITION}\n"
    layout += f"start=14336, size=1024, type={_ESP}\n"
    tools.run("sfdisk", "-q", raw, input=layout.encode())
    tools.run("mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "tree", "-E", f"offset={_START}", raw, f"{_SIZE // 1024}k")
    (tmp_path / "block").write_bytes(b"j" * 1024)
    tools.run("debugfs", "-w", "-f", "-", f"{raw}?offset={_START}", input=b"jo\njw -b 6000 block\njc\n", cwd=tmp_path)
    made = FakeNode(tmp_path)
    overlay.create(raw, made.overlay, 16 << 20)
    return made


@pytest.fixture
def held(node: Node) -> Iterator[Node]:
    """The same, with its disk open for writing elsewhere, as a QEMU that runs has it."""
    with subprocess.Popen(
        [str(tools.find("qemu-io")), "-f", "qcow2", str(node.overlay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        writer.stdin.write("length\n")
        writer.stdin.flush()
        assert "16 MiB" in writer.stdout.readline()
        yield node
        writer.stdin.close()


def silent() -> Any:
    return SimpleNamespace(answers=False)


def test_a_disk_is_read_as_after_a_mount_and_left_as_it_is(held: Node) -> None:
    before = held.overlay.read_bytes()
    with held.disk_as_it_is() as disk:
        assert disk.superblock().clean
    assert held.overlay.read_bytes() == before


def test_the_words_of_all_its_runs_are_read_from_the_disk_of_a_node_that_does_not_answer(held: Node) -> None:
    assert container_log.last_words(_MODPROBE, dead, silent(), held.disk_as_it_is) == [
        "last words of container modprobe, on its node's disk:",
        *(f"  | modprobe: the {each}" for each in ("first", "second", "third")),
    ]
    assert not list(held.overlay.parent.glob("*.raw"))


@pytest.mark.parametrize("container", [("kube-system", "node", "none"), ("kube-system", "torn", "main")])
def test_what_is_on_no_disk_is_not_made_up(container: tuple[str, str, str], node: Node) -> None:
    assert container_log.last_words(container, dead, silent(), node.disk_as_it_is) == []


def test_a_node_of_which_nothing_is_left_has_no_words(node: Node) -> None:
    node.overlay.unlink()
    assert container_log.last_words(_MODPROBE, dead, silent(), node.disk_as_it_is) == []


def refusing() -> Any:
    return SimpleNamespace(logs=lambda *_: (_ for _ in ()).throw(StatusError(404, "no such container")))


@pytest.mark.parametrize(
    ("kubelet", "agent", "words"),
    [
        (lambda: SimpleNamespace(logs=lambda *_: "the API's\n"), silent(), ["  | the API's"]),
        (lambda: SimpleNamespace(logs=lambda *_: ""), silent(), []),
        (
            refusing,
            SimpleNamespace(answers=True, run=lambda *_: Result(0, _LINE.format("a file's").encode())),
            ["  | a file's"],
        ),
        (refusing, SimpleNamespace(answers=True, run=lambda *_: Result(1, b"tail: no such file\n")), []),
    ],
)
def test_nobody_reads_the_disk_while_somebody_answers(kubelet: Callable[[], Any], agent: Any, words: list[str]) -> None:
    def read() -> Any:
        raise AssertionError("the disk was read")

    assert container_log.last_words(_MODPROBE, kubelet, agent, read)[1:] == words


def test_an_agent_that_ends_in_the_middle_leaves_the_disk(node: Node) -> None:
    def hang(*_: object) -> None:
        raise NodeFailure("it did not end")

    agent: Any = SimpleNamespace(answers=True, run=hang)
    assert container_log.last_words(_MODPROBE, dead, agent, node.disk_as_it_is)[-1] == "  | modprobe: the third"


def witnesses(node: Node) -> Witnesses:
    other: dict[str, Any] = {"screen": dead, "captures": [], "mac": "", "artifacts": node.artifacts}
    asked: Any = SimpleNamespace(execute=dead)
    never: dict[str, Any] = {"reachable": lambda: True, "unplugged": lambda: False}
    return Witnesses(kubelet=dead, agent=silent(), qmp=asked, disk=node.disk_as_it_is, **other, **never)


@pytest.mark.parametrize("outcome", [Contradicted(_FATE, _MODPROBE), GuestDied("kernel panic: x")])
def test_a_failure_has_the_words_of_a_container_that_failed(outcome: Contradicted | GuestDied, node: Node) -> None:
    said = str(evidence.failure(outcome, "a line", "", Heard([], [], failed=[(_FATE, _MODPROBE)]), witnesses(node)))
    assert "last words of container modprobe, on its node's disk:\n  | modprobe: the first" in said
    assert said.count(_FATE) == 1


def test_a_node_that_is_only_late_has_no_container_that_failed_at_its_end(node: Node) -> None:
    said = str(evidence.failure(Stalled(90), "a line", "", Heard([], [], failed=[(_FATE, _MODPROBE)]), witnesses(node)))
    assert "last words of container" not in said


def test_the_logs_of_a_node_that_has_ended_are_kept_from_its_disk(node: Node, tmp_path: Path) -> None:
    pod_logs.keep_left(node.disk_as_it_is, tmp_path / "kept")
    found = {str(file.relative_to(tmp_path / "kept")): file.read_text() for file in (tmp_path / "kept").rglob("*.log")}
    runs = "".join(f"modprobe: the {each}\n" for each in ("first", "second", "third"))
    assert found == {
        "kube-system_node/modprobe.log": runs,
        "kube-system_node/dhcpcd.log": "dhcpcd: no carrier\n",
        "default_node/modprobe.log": "another's\n",
        "kube-system_torn/main.log": "",
    }


def test_a_node_without_such_a_disk_leaves_no_logs(tmp_path: Path) -> None:
    pod_logs.keep_left(dead, tmp_path / "kept")
    lacks: Any = SimpleNamespace(folder=lambda _: (_ for _ in ()).throw(NodeFailure("there is no /meta/log/pods")))
    pod_logs.keep_left(lambda: nullcontext(lacks), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
