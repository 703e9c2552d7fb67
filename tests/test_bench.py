"""What the harness is measured beside starts as its peers start it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench import peers
from bench.lab import Lab
from harness.vm.machine import Machine


def test_a_peer_starts_qemu_itself(tmp_path: Path) -> None:
    qemu, firmware, accelerator = (
        tmp_path / "qemu",
        SimpleNamespace(code=tmp_path / "code"),
        SimpleNamespace(name="tcg", cpu="max"),
    )
    lab: Any = SimpleNamespace(
        host=SimpleNamespace(qemu=SimpleNamespace(path=qemu), firmware=firmware, accelerator=accelerator), folder=tmp_path
    )
    lab.command_line = lambda *asked: Lab.command_line(lab, *asked)
    node: Any = SimpleNamespace(
        order=SimpleNamespace(machine=Machine(1 << 30)), variables=tmp_path / "variables", overlay=tmp_path / "disk"
    )
    words = peers._bare_machine(lab, node)
    assert words[0] == str(qemu)
    assert "-S" not in words
    assert "chardev" not in " ".join(words)
