"""The nodes of a test end with it, all of them, whichever of them fails to."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.lab.maker import NodeMaker


def make_maker(folder: Path) -> NodeMaker:
    nothing: Any = None
    return NodeMaker(nothing, folder, folder / "artifacts", nothing, nothing)


def node(name: str, close: Callable[[], None]) -> Any:
    return SimpleNamespace(artifacts=Path(name), close=close)


def test_a_node_that_cannot_be_ended_leaves_no_other_and_no_lock(tmp_path: Path) -> None:
    maker, ended = make_maker(tmp_path), list[str]()

    def fail() -> None:
        raise HarnessError("the disk is full")

    maker.nodes += [node("one", lambda: ended.append("one")), node("two", fail), node("three", lambda: ended.append("three"))]
    maker._in_use.callback(ended.append, "template")
    with pytest.raises(HarnessError, match="the disk is full"):
        maker.close()
    assert sorted(ended[:2]) == ["one", "three"]
    assert ended[2:] == ["template"], "a template is in use until the last of its clones has ended"


def test_each_template_of_a_test_has_artifacts_of_its_own(tmp_path: Path) -> None:
    maker, names = make_maker(tmp_path), list[str]()
    for _ in range(3):
        names.append(maker._numbered("template"))
        maker.nodes.append(node(names[-1], lambda: None))
    assert names == ["template", "template-2", "template-3"]
    assert maker._next_place().artifacts.name == "node-1"
