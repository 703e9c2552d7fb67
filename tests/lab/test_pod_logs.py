"""The containers' logs of a node that failed: all that can be read, whatever cannot."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NodeFailure
from harness.lab import pod_logs
from harness.serial.result import Result

_LINE = "2026-01-01T00:00:00.1Z stdout F {}\n"


class FakeAgent:
    """A node's agent, whose files are in a folder here."""

    answers = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str, _: float) -> Result:
        there = command.replace("/host/", f"{self.root}/")
        done = subprocess.run(["sh", "-c", there], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
        return Result(done.returncode, done.stdout)


def _log(root: Path, name: str, text: str) -> None:
    file = root / "var/log/pods" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_each_containers_log_is_kept_its_earlier_runs_first(tmp_path: Path) -> None:
    root, kept = tmp_path / "node", tmp_path / "kept"
    _log(root, "kube-system_node_uid/dhcpcd/0.log", _LINE.format("first"))
    _log(root, "kube-system_node_uid/dhcpcd/1.log", _LINE.format("second"))
    _log(root, "kube-system_node_uid/broken/0.log", f"no line of CRI's\n{_LINE.format('whole')}")
    _log(root, "default_other_uid/main/0.log", _LINE.format("other"))
    agent: Any = FakeAgent(root)
    pod_logs.keep(agent, kept)
    found = {str(file.relative_to(kept)): file.read_text() for file in kept.rglob("*.log")}
    assert found == {
        "kube-system_node/dhcpcd.log": "first\nsecond\n",
        "kube-system_node/broken.log": "whole\n",
        "default_other/main.log": "other\n",
    }


def test_a_node_that_hangs_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for container in ("one", "two"):
        _log(tmp_path, f"default_pod_uid/{container}/0.log", _LINE.format("said"))
    agent: Any = FakeAgent(tmp_path)
    answer, asked = agent.run, list[str]()

    def hang(command: str, within: float) -> Result:
        asked.append(command)
        if "tail -n" in command and "ls" not in command:
            raise NodeFailure("it did not end within 10 s")
        result: Result = answer(command, within)
        return result

    monkeypatch.setattr(agent, "run", hang)
    pod_logs.keep(agent, tmp_path / "kept")
    assert len(asked) == 2


def test_a_node_that_does_not_answer_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent: Any = FakeAgent(tmp_path)

    def fail(*_: object) -> Result:
        raise NodeFailure("the node is over")

    monkeypatch.setattr(agent, "run", fail)
    pod_logs.keep(agent, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
