"""Nodes that failed share what bundles may take, and one that cannot be frozen takes nothing from the others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import aftermath
from harness.aftermath import Bundling
from harness.errors import HarnessError
from harness.lab import bundle
from harness.lab.bundle import Failure


def test_each_bundle_has_what_the_others_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    def make(node: Any, failure: Failure, host: object, place: Path, scratch: Path, limit: int, say: object) -> None:
        assert scratch.is_dir()
        assert failure.environment["QEMU"] == "11.1"
        limits.append(limit)
        if node.name == "node-2":
            raise HarnessError("its QEMU had ended\nartifacts: elsewhere")
        place.write_bytes(bytes(30))

    monkeypatch.setattr(bundle, "make", make)
    nodes: list[Any] = []
    for number in (1, 2, 3):
        (tmp_path / f"node-{number}").mkdir()
        nodes.append(
            SimpleNamespace(name=f"node-{number}", artifacts=tmp_path / f"node-{number}", overlay=tmp_path, was_started=True)
        )
    nodes.append(SimpleNamespace(name="node-4", was_started=False))
    host: Any = SimpleNamespace(facts=lambda: {"QEMU": "11.1"})
    config: Any = SimpleNamespace(stash=pytest.Stash())
    told: list[str] = []
    monkeypatch.setattr(aftermath, "tell", lambda _, words: told.append(words))
    aftermath.freeze(nodes, Failure("a.py::test", "it failed"), Bundling(100, tmp_path, tmp_path, host, print), config)
    assert limits == [100, 70, 70]
    assert told[1] == "no bundle of node-2 of a.py::test: its QEMU had ended"
    assert f"kios-e2e enter {tmp_path}/node-3/{bundle.NAME}" in told[2]
