"""A file is replaced as a whole, and what cannot be written leaves nothing."""

from pathlib import Path

import pytest

from harness import whole_file


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two \udcff ü"):
        whole_file.write(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == b"two \\udcff \xc3\xbc"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_file.write(tmp_path / "file", "one")
    written = Path.write_text

    def full(file: Path, text: str, **how: str) -> int:
        written(file, text[:1], **how)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        whole_file.write(tmp_path / "file", "two")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "one")]
