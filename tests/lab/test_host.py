"""What this machine has for nodes, where the cache is somebody else's."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.lab import capacity, host
from harness.lab.admission import Need


def test_a_cache_that_cannot_be_written_has_the_users_own_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    said: list[str] = []
    with host._gate(Path("/proc/kios-e2e"), said.append).reserve(Need(1, 0.1), 1):
        (own,) = tmp_path.glob("kios-e2e-admission-*")
        assert list(own.glob("*.need"))
    assert len(said) == 1
    assert "/proc/kios-e2e cannot be written" in said[0]


def test_nodes_that_take_one_cpu_each_are_more_than_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "capacity", lambda: Need(1000, 2.0))
    gate = "import sys; from pathlib import Path; from harness.lab.admission import Admission, Need\n"
    hold = "Admission(Path(sys.argv[1]), Need(1000, 9.0)).reserve(Need(1, 2.0), 5)"
    script = f"{gate}with {hold}: print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "admission")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with host._gate(tmp_path, lambda _: None).reserve(Need(1, 1.0), 0):
        pass
    other.communicate(b"")


def test_where_neither_can_be_written_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc")
    with pytest.raises(HarnessError, match=r"Neither /proc/kios-e2e nor /proc/kios-e2e-admission-\d+ can be written"):
        host._gate(Path("/proc/kios-e2e"), lambda _: None)
