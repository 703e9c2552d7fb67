"""The page on writing scenarios: its examples are of the types that are declared, and hold on a node."""

import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pytest

from harness.guest.remote_command import RemoteCommand
from harness.lab.boot import Boot
from harness.lab.node import Node
from harness.lab.questions import Questions
from harness.serial.result import Result
from harness.verdict.feed import ContainerState, PodState
from harness.wire.dhcp import Lease

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/writing-scenarios.md").read_text()
SCENARIOS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ON_A_NODE = re.findall(r"^```python node\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LEASE = Lease(IPv4Interface("10.0.2.15/24"), (), (), 86400, IPv4Address("10.0.2.2"))
# Only scenarios/examples.py runs these.
ON_A_MACHINE = re.findall(r"^```python machine(?: a)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
# What makes nodes and reports on them, and no scenario calls.
OURS = {
    "prepare",
    "clone",
    "start_freezable",
    "enter",
    "leave",
    "pods_given",
    "freeze",
    "overlay",
    "variables",
    "boot",
    "boots",
    "name",
    "started",
    "awaited",
    "disk_as_it_is",
}
OURS |= {
    "enter",
    "leave",
    "pods_given",
    "was_started",
    "slowness",
    "timeline",
    "disk",
    "disk_as_it_is",
    "keep_disk",
    "close",
    "why_void",
}
ANSWERS = {
    "uname": b"Linux\n",
    "cat /host/var/log/a note.txt": b"kept",
    "cat /proc/modules": b"virtio_net 65536 0 - Live 0x0\n",
    "files=": b"2026-01-01T00:00:00.1Z stdout F Kubelet version v1\n",
    "grep -q ':280A ": b"",
}
FAILURES = {"ls /missing": Result(1, b"no such file\n"), "exit 3": Result(3, b"")}


class Kubelet:
    """The node's own pod and the harness's."""

    def states(self) -> list[ContainerState]:
        return [ContainerState("node", "kubelet", "running"), ContainerState("kios-e2e", "console", "running")]

    def changes(self) -> list[ContainerState | PodState]:
        return [*self.states(), PodState("node", "Running"), PodState("kios-e2e", "Running")]

    def logs(self, namespace: str, pod: str, container: str) -> str:
        return "Kubelet version v1\n"


class FakeBoot:
    """Answers as a node does to the page's questions."""

    kubelet = Kubelet()

    def run(self, command: str) -> Result:
        if command in FAILURES:
            return FAILURES[command]
        return next(Result(0, answer) for asked, answer in ANSWERS.items() if command.startswith(asked))

    def exec(self, command: RemoteCommand, within: float) -> Result:
        return Result(0, b"0\n")

    def lease(self) -> Lease:
        return LEASE

    def read_file(self, path: PurePosixPath) -> bytes:
        return self.run(f"cat /host{path}").output

    def write_file(self, path: PurePosixPath, content: bytes) -> None:
        assert (str(path), content) == ("/var/log/a note.txt", b"kept")

    def expects(self, pod: str, container: str) -> bool:
        return pod == "node"

    def until(self, condition, what, within, seen=str):  # type: ignore[no-untyped-def]
        met = condition()
        assert met, what
        return met


class FakeNode(Questions):
    """A node with such a run."""

    @property
    def boot(self) -> Boot:
        return FakeBoot()  # type: ignore[return-value]

    def until(self, condition: Callable[[], T], what: str, within: float | None = None) -> T:
        return self.boot.until(condition, what, within or 60.0)


def test_the_page_has_examples() -> None:
    assert SCENARIOS
    assert len(ON_A_NODE) >= 5
    assert PAGE.count("```python") == len(SCENARIOS) + len(ON_A_NODE) + len(ON_A_MACHINE)


@pytest.mark.parametrize("example", ON_A_NODE)
def test_an_example_holds(example: str) -> None:
    exec(compile(example, "docs/writing-scenarios.md", "exec"), {"node": FakeNode()})


def test_the_examples_are_well_typed(tmp_path: Path) -> None:
    typed = "from harness.lab.node import Node\n\n"
    for number, example in enumerate([*ON_A_NODE, *ON_A_MACHINE]):
        body = "".join(f"    {line}\n" for line in example.splitlines())
        typed += f"def example_{number}(node: Node) -> None:\n{body}\n"
    (tmp_path / "on_a_node.py").write_text(typed)
    for number, example in enumerate(SCENARIOS):
        (tmp_path / f"scenario_{number}.py").write_text(example)
    files = sorted(tmp_path.glob("*.py"))
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    mypy = [sys.executable, "-m", "mypy", *config, "--follow-imports", "silent", *map(str, files)]
    done = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_method_is_on_the_page() -> None:
    public = {name for kind in (Questions, Node) for name in vars(kind) if not name.startswith("_")} - OURS
    shown = "".join([*SCENARIOS, *ON_A_NODE, *ON_A_MACHINE])
    assert sorted(name for name in public if not re.search(rf"node\.{name}[(.]", shown)) == []
