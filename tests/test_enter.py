"""A person or a script at a failed node: what they are told, which image it is given, and when its disk is booted instead."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import by_hand, enter, lab
from harness.errors import HarnessError, InputError, NodeFailure
from harness.guest import clock
from harness.lab import builder, digest
from harness.lab import bundle as bundles
from harness.lab.bundle import Bundle, Failure, Surroundings
from harness.lab.node import Node
from harness.lab.template import Templates
from harness.lab.wanted import Wanted
from harness.manifests.pods import load
from harness.storage import disk
from harness.verdict.timeline import Passed
from harness.vm.machine import MIB, Machine

_HERE = Surroundings("11.1", "tcg", "Haswell-noTSX", "emulated", "0" * 64)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    image = tmp_path / "kios.img"
    image.write_bytes(b"image")
    pod: Any = SimpleNamespace(images=[])
    return Bundle(
        failure=Failure("x.py::test_x", "milestone init: the guest died\x1b[2J\nlast words", {}),
        node="node-1",
        at=0.0,
        image=image,
        image_sha256=digest.of(image),
        machine=Machine(64 * MIB),
        pods=[],
        console_pod=pod,
        milestones=(Passed("firmware", 1.0, frozen=True),),
        surroundings=_HERE,
        why_no_state="",
        facts={},
    )


@pytest.fixture(autouse=True)
def _no_reference_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> str:
        raise HarnessError("no image was built")

    monkeypatch.setattr(builder, "ask", none)
    monkeypatch.setattr(disk, "open_image", lambda file: SimpleNamespace(path=file))


def test_the_image_is_found_where_it_was(bundle: Bundle, tmp_path: Path) -> None:
    assert enter._image(bundle, Wanted(), tmp_path).path == bundle.image


def test_an_image_that_changed_since_is_not_taken(bundle: Bundle, tmp_path: Path) -> None:
    bundle.image.write_bytes(b"another")
    with pytest.raises(InputError, match=r"\(kios.img, SHA-256 6105d6c.* is not at hand: name it with --kios-image FILE"):
        enter._image(bundle, Wanted(), tmp_path)


def test_an_image_at_a_place_that_cannot_be_looked_at_is_not_at_hand(bundle: Bundle, tmp_path: Path) -> None:
    elsewhere = replace(bundle, image=tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="is not at hand: name it with --kios-image FILE"):
        enter._image(elsewhere, Wanted(), tmp_path)


def test_the_wrong_image_is_told(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(b"another")
    monkeypatch.setattr(Wanted, "check", lambda _: None)
    monkeypatch.setattr(Wanted, "bring", lambda *_: SimpleNamespace(disk=SimpleNamespace(path=other)))
    with pytest.raises(InputError, match=f"{other} is not the image of the failed node, which had the SHA-256 6105d6c"):
        enter._image(bundle, Wanted(image=other), tmp_path)


class Machines:
    """Stands for the nodes that are made of what is left: the first may refuse its state."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.started, self.closed = refuses, list[bool](), 0

    def enter(self, remains: Any, *_: object) -> Any:
        return SimpleNamespace(start=lambda: self.start(remains), close=self.close)

    def start(self, remains: Any) -> None:
        self.started.append(remains.has_state)
        if remains.has_state and self.refuses:
            raise HarnessError("The migration failed: no such device\nmore")

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("here", "lost", "refuses", "started", "why"),
    [
        (_HERE, "", False, [True], ""),
        (replace(_HERE, qemu="12.0"), "", False, [False], "qemu 12.0 here, 11.1 there"),
        (_HERE, "its QEMU had ended", False, [False], "its QEMU had ended"),
        (_HERE, "", True, [True, False], "The migration failed: no such device"),
    ],
)
def test_a_memory_that_does_not_come_back_has_its_disk_booted(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: Surroundings,
    lost: str,
    refuses: bool,
    started: list[bool],
    why: str,
) -> None:
    machines = Machines(refuses)
    monkeypatch.setattr(Node, "enter", machines.enter)
    monkeypatch.setattr(Surroundings, "of", lambda _: here)
    remains: Any = SimpleNamespace(has_state=True, without_state=lambda: SimpleNamespace(has_state=False))
    nothing: Any = None
    with enter._up(replace(bundle, why_no_state=lost), remains, nothing, nothing, tmp_path):
        pass
    assert (machines.started, machines.closed) == (started, len(started))
    said = f"kios-e2e: the node's memory cannot be brought back ({why}): its disk is booted as it was left\n" if why else ""
    assert capsys.readouterr().err == said


@pytest.fixture
def entered(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Enters a bundle with a script on stdin."""
    boot = SimpleNamespace(frozen=None, kubelet=SimpleNamespace(port=1), ssh_port=2)
    node = SimpleNamespace(boot=boot, wire="the wire", pods_given=[], name="node-1")

    @contextmanager
    def up(*_: object) -> Iterator[Any]:
        yield node

    monkeypatch.setattr(bundles, "unpack", lambda *_: bundle)
    monkeypatch.setattr(Bundle, "remains", lambda _, folder, __: SimpleNamespace(folder=folder))
    monkeypatch.setattr(enter, "_up", up)
    monkeypatch.setattr(enter, "_host", lambda *_: None)

    def run(script: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(script))
        return enter.enter(enter.Visit(tmp_path / "FAIL.tar.zst", Wanted(cache=tmp_path)))

    return run


def test_a_script_is_run_with_the_node(entered: Callable[[str], int], capsys: pytest.CaptureFixture[str]) -> None:
    script = "def f():\n    return wire\nprint(node.name, f(), logs.name, bundle.node, callable(console), callable(screen))"
    assert entered(script) == 0
    assert capsys.readouterr().out == "node-1 the wire artifacts node-1 True True\n"


def test_a_network_that_reaches_out_is_a_word_of_the_user_alone(
    entered: Callable[[str], int], bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundles, "unpack", lambda *_: bundle.on("open"))
    assert entered("print(bundle.machine.network)") == 0
    said = capsys.readouterr()
    assert said.out == "restricted\n"
    assert said.err == "kios-e2e: the network of the failed node was open, and is restricted now\n"


def test_a_name_that_nobody_knows_is_an_error(entered: Callable[[str], int]) -> None:
    with pytest.raises(NameError, match="nodes"):
        entered("nodes")


def test_the_greeting_says_what_failed_and_shows_no_escape_code(bundle: Bundle) -> None:
    boot = SimpleNamespace(kubelet=SimpleNamespace(port=1), ssh_port=2)
    node: Any = SimpleNamespace(boot=boot, credentials=SimpleNamespace(client="c", ssh_user="u"))
    greeting = enter._greeting(bundle, node, {"logs": "/logs", "pods": {"node.yaml": None}})
    assert "x.py::test_x, node-1, 1970-01-01 00:00 UTC:\n  milestone init: the guest died\\x1b[2J\n" in greeting
    assert "reached: firmware" in greeting
    assert "yet to be given: node.yaml;" in greeting
    assert all(line in greeting for line in by_hand.ways_in(node))


@pytest.fixture
def with_pods(bundle: Bundle) -> Bundle:
    """A bundle of a node with two pods of a scenario's."""
    manifests = Path(__file__).parents[1] / "scenarios/manifests"
    pods = [load(manifests / name) for name in ("node.yaml", "farewell.yaml")]
    return replace(bundle, pods=pods, console_pod=load(Path(lab.__file__).parent / "kios-e2e.yaml"), facts={"image": "1"})


def test_the_words_of_an_error_at_the_prompt_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    prompt = enter._Prompt({})
    prompt.push("raise AssertionError('\\x1b[2Jit lies')")
    assert "AssertionError: \\x1b[2Jit lies" in capsys.readouterr().err


def test_a_milestone_that_the_node_never_had_is_told(with_pods: Bundle, tmp_path: Path) -> None:
    nothing: Any = None
    with (
        pytest.raises(InputError, match=r"no milestone node/sshd: name one of firmware, kernel, init, .*node/modprobe"),
        enter._before("node/sshd", with_pods, nothing, nothing, tmp_path, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("facts", "passed", "suits"),
    [
        ({"image": "1", "pods": "node farewell console"}, [], True),
        ({"image": "1", "pods": "console"}, [], True),
        ({"image": "2", "pods": "console"}, [], False),
        ({"image": "1", "pods": "console other"}, [], False),
        ({"image": "1", "pods": "console"}, ["node/modprobe"], False),
    ],
)
def test_a_template_before_a_milestone_has_the_nodes_pods_and_no_others(
    with_pods: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, str],
    passed: list[str],
    suits: bool,
) -> None:
    known = {**{pod.name: pod for pod in with_pods.pods}, "console": with_pods.console_pod}
    words = [(*enter._fact(known[name]),) if name in known else (name, "0") for name in facts["pods"].split()]
    facts = {**facts, "pods": " ".join(" ".join(each) for each in words)}
    asked: list[bool] = []

    @contextmanager
    def latest(_: object, suit: Callable[[dict[str, str], list[str]], bool]) -> Iterator[None]:
        asked.append(suit(facts, passed))
        yield None

    def booted(*_: object) -> None:
        raise HarnessError("it boots")

    monkeypatch.setattr(Templates, "latest", latest)
    monkeypatch.setattr(enter, "NodeMaker", booted)
    nothing: Any = None
    with (
        pytest.raises(HarnessError, match="it boots"),
        enter._before("node/modprobe", with_pods, nothing, nothing, tmp_path, tmp_path),
    ):
        pass
    assert asked == [suits]


def test_what_is_made_at_its_first_use_is_made_once() -> None:
    made: list[str] = []

    def disk() -> str:
        made.append("disk")
        return "the disk"

    names = enter._Names({}, {"disk": disk})
    exec("def f(): return disk\nassert f() == disk == 'the disk'", names)
    assert made == ["disk"]


@pytest.mark.parametrize(("reached", "sets"), [(["firmware"], False), (["console"], True), (["shell"], True)])
def test_the_clock_is_set_where_somebody_takes_commands(
    monkeypatch: pytest.MonkeyPatch, reached: list[str], sets: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(clock, "set_to_hosts", asked.append)
    frozen = SimpleNamespace(keeps_its_clock=True, milestones=[Passed(name, 1.0) for name in reached])
    boot = SimpleNamespace(frozen=frozen, run="run", agent=SimpleNamespace(answers=True))
    node: Any = SimpleNamespace(boot=boot, until=lambda *_: True)
    enter._set_clock(node)
    assert asked == (["run"] if sets else [])


def test_a_node_that_takes_no_commands_any_more_is_entered_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    def silent(*_: object) -> None:
        raise NodeFailure("an answer of the agent's: it did not happen within 10 s\nreached: ...")

    frozen = SimpleNamespace(keeps_its_clock=True, milestones=[Passed("shell", 1.0)])
    node: Any = SimpleNamespace(boot=SimpleNamespace(frozen=frozen), until=silent)
    enter._set_clock(node)
    said = capsys.readouterr().err
    assert said == "kios-e2e: the node's clock is left as it was: an answer of the agent's: it did not happen within 10 s\n"
