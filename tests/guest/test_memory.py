"""A daemon's last words in a guest's memory: the newest of each, whole, from any piece, and none of what only looks so."""

from pathlib import Path

import pytest

from harness.guest import memory
from harness.guest.memory import reason

OLD = rb'E1125 13:59:28.000001       1 run.go:72] "command failed" err="the old reason"'
NEW = rb'E1125 13:59:29.123456     312 run.go:72] "command failed" err="failed to load \"config.yaml\":\n no kind"'
CRIO = b'time="2026-11-25T13:59:29.5Z" level=fatal msg="validating runtime config: no conmon"'


def found(daemon: str, content: bytes, tmp_path: Path) -> str:
    def save(start: int, length: int, file: Path) -> None:
        file.write_bytes(content[start : start + length])

    words = reason(daemon, len(content), save, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    return words


def test_the_newest_words_are_the_reason(tmp_path: Path) -> None:
    content = b"\0\xff" + NEW + b"\0" * 99 + CRIO + b"\0" + OLD + b"\0"
    assert found("kubelet", content, tmp_path) == 'failed to load "config.yaml":  no kind'
    assert found("crio", content, tmp_path) == "validating runtime config: no conmon"


@pytest.mark.parametrize("other", [b"\0" * 64, NEW[:-1] + b"\0\0", b'"command failed" err="without a time"', CRIO])
def test_what_is_no_whole_line_of_the_kubelets_is_none(tmp_path: Path, other: bytes) -> None:
    assert found("kubelet", other, tmp_path) == ""


def test_words_of_several_lines_are_whole(tmp_path: Path) -> None:
    lines = NEW.partition(b'err="')[0] + b"err=<\n\tunknown labels: [a]\n\t--node-labels must be: b\n >\n"
    assert found("kubelet", OLD + b"\0" + lines + b"\0", tmp_path) == "unknown labels: [a] --node-labels must be: b"
    assert found("kubelet", lines[:-3], tmp_path) == ""


def test_memory_is_read_piece_by_piece_and_the_newest_of_all_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PIECE", 256)
    assert found("kubelet", NEW.ljust(256, b"\0") + OLD.ljust(300, b"\0"), tmp_path).startswith("failed to load")
