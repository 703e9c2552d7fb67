"""What was seen of faults: kept as a whole, and summed up in a line."""

from pathlib import Path

import pytest

from faults import ledger
from faults.ledger import Seen


def test_what_is_written_is_read(tmp_path: Path) -> None:
    seen = {"b": Seen(caught=True, line="it says so", seconds=1.5), "a": Seen(caught=False, line="", wrong="NOT CAUGHT")}
    ledger.write(tmp_path / "new/seen.json", seen)
    assert ledger.read(tmp_path / "new/seen.json") == seen
    assert ledger.read(tmp_path / "none.json") == {}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["seen.json"]


def test_what_is_committed_changes_by_what_was_seen_alone(tmp_path: Path) -> None:
    seen = {"b": Seen(caught=True, line="“b”"), "a": Seen(caught=True, line="a")}
    ledger.write(tmp_path / "one.json", seen)
    ledger.write(tmp_path / "other.json", dict(reversed(seen.items())))
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_a_writing_that_is_cut_off_leaves_what_was_there(tmp_path: Path) -> None:
    seen = {"a": Seen(caught=True, line="a")}
    ledger.write(tmp_path / "seen.json", seen)
    with pytest.raises(UnicodeEncodeError):
        ledger.write(tmp_path / "seen.json", {"a": Seen(caught=True, line="\ud800")})
    assert ledger.read(tmp_path / "seen.json") == seen


def test_the_last_line_counts_what_was_caught_and_named() -> None:
    seen = {
        "a": Seen(caught=True, line="", seconds=1),
        "b": Seen(caught=True, line="", seconds=3),
        "c": Seen(caught=True, line="", seconds=20),
        "d": Seen(caught=True, line="", wrong="MISNAMED", seconds=900),
        "e": Seen(caught=False, line="", wrong="NOT CAUGHT"),
        "f": Seen(caught=False, line=""),
        "g": Seen(caught=True, line=""),
    }
    assert ledger.last_line(seen) == "faults: 5 of 7 caught, 4 of 7 named, median 3.0 s to the verdict"
    assert ledger.last_line({}) == "faults: 0 of 0 caught, 0 of 0 named, median no time to the verdict"
