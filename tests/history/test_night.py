"""The nights' file: a report is added once, and what is no night is left out."""

from pathlib import Path

from harness.history import night
from harness.history.night import Night


def test_nights_come_back_in_order_and_once(tmp_path: Path) -> None:
    later, first = Night("b", 2.0, "qualified", verdicts={"t": "passed"}), Night("a", 1.0, "not qualified", figures={"m": 3.0})
    assert [night.add(each, tmp_path / "history") for each in (later, first, later)] == [True, True, False]
    assert night.read(tmp_path / "history") == [first, later]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    night.add(Night("a", 1.0, "qualified"), tmp_path)
    with (tmp_path / night.NAME).open("a") as file:
        file.write('{"name": "b"}\n{"na')
    assert [each.name for each in night.read(tmp_path)] == ["a"]


def test_no_nights_are_none(tmp_path: Path) -> None:
    assert list(night.read(tmp_path)) == []
