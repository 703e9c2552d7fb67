"""What was seen of faults: kept as a whole, and summed up in a line."""

from pathlib import Path

from faults import ledger
from faults.ledger import Seen


def test_what_is_written_is_read(tmp_path: Path) -> None:
    seen = {"b": Seen(caught=True, line="it says so", seconds=1.5), "a": Seen(caught=False, line="", wrong="NOT CAUGHT")}
    ledger.write(tmp_path / "new/seen.json", seen)
    assert ledger.read(tmp_path / "new/seen.json") == seen
    assert ledger.read(tmp_path / "none.json") == {}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["seen.json"]


def test_the_last_line_counts_what_was_caught_and_named() -> None:
    seen = {
        "a": Seen(caught=True, line="", seconds=1),
        "b": Seen(caught=True, line="", seconds=3),
        "c": Seen(caught=True, line="", seconds=20),
        "d": Seen(caught=True, line="", wrong="MISNAMED", seconds=900),
        "e": Seen(caught=False, line="", wrong="NOT CAUGHT"),
    }
    assert ledger.last_line(seen) == "faults: 4 of 5 caught, 3 of 5 named, median 3.0 s to the verdict"
    assert ledger.last_line({}) == "faults: 0 of 0 caught, 0 of 0 named, median no time to the verdict"
