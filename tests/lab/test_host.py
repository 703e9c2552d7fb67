"""What this machine has for nodes, where the cache is somebody else's."""

import tempfile
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.lab import host
from harness.lab.admission import Need


def test_a_cache_that_cannot_be_written_has_the_users_own_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    said: list[str] = []
    with host._gate(Path("/proc/kios-e2e"), said.append).reserve(Need(1, 0.1), 1):
        (own,) = tmp_path.glob("kios-e2e-admission-*")
        assert list(own.glob("*.need"))
    assert len(said) == 1
    assert "/proc/kios-e2e cannot be written" in said[0]


def test_where_neither_can_be_written_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc")
    with pytest.raises(HarnessError, match=r"Neither /proc/kios-e2e nor /proc/kios-e2e-admission-\d+ can be written"):
        host._gate(Path("/proc/kios-e2e"), lambda _: None)
