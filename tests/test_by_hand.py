"""A node that a person boots by hand: its logs stay where it failed, and so says the exit status."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import by_hand
from harness.errors import HarnessError
from harness.lab import builder, host, place, wanted
from harness.lab.generation import Belief, Generation
from harness.lab.place import Place
from harness.lab.wanted import Wanted
from harness.serial import terminal


class Maker:
    """Makes a node that is left as `end` says."""

    def __init__(self, artifacts: Path, end: Callable[[], None]) -> None:
        self.artifacts, self.end = artifacts, end

    def order(self, *_: object) -> None:
        pass

    def prepare(self, _: object) -> Any:
        self.artifacts.mkdir()
        (self.artifacts / "console.log").write_text("last words")
        process = SimpleNamespace(running=lambda: True)
        return SimpleNamespace(start=lambda: None, boot=SimpleNamespace(check_end=self.end, process=process))

    def close(self) -> None:
        pass


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], int]:
    nothing: Any = lambda *_: None  # noqa: E731
    monkeypatch.setattr(by_hand.tempfile, "tempdir", str(tmp_path))  # type: ignore[attr-defined]
    monkeypatch.setattr(place, "for_run", lambda: Place(tmp_path))
    monkeypatch.setattr(builder, "reference_image", lambda _: tmp_path)
    monkeypatch.setattr(wanted, "open_image", nothing)
    monkeypatch.setattr(host, "find", nothing)
    monkeypatch.setattr(by_hand, "visit", nothing)

    def booted(end: Callable[[], None]) -> int:
        monkeypatch.setattr(by_hand, "NodeMaker", lambda _host, _folder, artifacts, *_, **__: Maker(artifacts, end))
        return by_hand.boot(Wanted(cache=tmp_path), [])

    return booted


def test_a_node_that_was_left_leaves_nothing(boot: Callable[[Callable[[], None]], int], tmp_path: Path) -> None:
    assert boot(lambda: None) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_node_that_ends_with_its_stdin_says_so(
    boot: Callable[[Callable[[], None]], int],
    is_terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: is_terminal, raising=False)
    assert boot(lambda: None) == 0
    assert ("stdin has ended, and so does the node" in capsys.readouterr().err) is not is_terminal


def test_the_generation_is_said_before_anything_boots(
    boot: Callable[[Callable[[], None]], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = SimpleNamespace(belief=Belief(Generation.B, "it says so"), initramfs=None, built_in={})
    monkeypatch.setattr(Wanted, "bring", lambda *_: brought)
    monkeypatch.setattr(Wanted, "tested", lambda *_: None)
    boot(lambda: None)
    assert "kios-e2e: generation B: it says so\n" in capsys.readouterr().err


def test_a_node_is_on_a_disk_where_there_is_one_and_its_user_is_told(
    boot: Callable[[Callable[[], None]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(place, "for_run", lambda: Place(tmp_path / "disk", "the run's folder is in another\x1b[2J"))
    seen: list[Path] = []
    assert boot(lambda: seen.extend((tmp_path / "disk").glob("kios-e2e-*/artifacts"))) == 0
    assert len(seen) == 1
    assert "kios-e2e: the run's folder is in another\\x1b[2J\n" in capsys.readouterr().err


def test_the_logs_of_a_node_that_failed_stay(boot: Callable[[Callable[[], None]], int], tmp_path: Path) -> None:
    def died() -> None:
        (run,) = tmp_path.glob("kios-e2e-*")
        raise HarnessError(f"QEMU died with status -11; artifacts: {run}/artifacts/node-1")

    with pytest.raises(HarnessError, match="status -11") as failed:
        boot(died)
    (kept,) = tmp_path.iterdir()
    assert (kept / "artifacts/console.log").read_text() == "last words"
    assert str(failed.value).endswith(f"artifacts: {kept}/artifacts/node-1")


def test_a_node_that_cannot_be_made_leaves_nothing(
    boot: Callable[[Callable[[], None]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise HarnessError("a disk is full")

    monkeypatch.setattr(Maker, "order", refuse)
    with pytest.raises(HarnessError, match="a disk is full"):
        boot(lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_a_shell_that_took_commands_prompts_again_for_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(terminal, "interact", lambda *_: done.append("sits down"))
    shell = SimpleNamespace(leave=lambda: done.append("prompts"))
    boot = SimpleNamespace(kubelet=SimpleNamespace(port=1), ssh_port=2, shell=shell, console=None, process=None)
    node: Any = SimpleNamespace(credentials=SimpleNamespace(client="c", ssh_user="u"), boot=boot)
    with (tmp_path / "screen").open("wb") as screen:
        by_hand.visit(node, screen, screen)
    assert done == ["prompts", "sits down"]


@pytest.mark.parametrize("answers", [True, False])
def test_the_window_is_set_once_the_agent_answers(answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    window = os.terminal_size((132, 40))
    monkeypatch.setattr(terminal, "interact", lambda *told: done.append(told[-1](window)))

    def run(command: str, _: float) -> str:
        done.append(command)
        return "a result"

    agent = SimpleNamespace(answers=answers, run=run)
    boot = SimpleNamespace(
        kubelet=SimpleNamespace(port=1),
        ssh_port=2,
        shell=SimpleNamespace(leave=lambda: None),
        agent=agent,
        console=None,
        process=None,
    )
    node: Any = SimpleNamespace(credentials=SimpleNamespace(client="c", ssh_user="u"), boot=boot)
    with (tmp_path / "screen").open("wb") as screen:
        by_hand.visit(node, screen, screen)
    assert done == (["stty -F /host/dev/ttyS0 cols 132 rows 40", True] if answers else [False])
