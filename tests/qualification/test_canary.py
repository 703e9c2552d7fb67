"""What the canaries caught, as it is found again."""

from dataclasses import replace
from pathlib import Path

from harness.qualification import canary
from harness.qualification.canary import Canary

CAUGHT = Canary("order", "order.py::test", "no parted", True, "it fails")


def test_what_was_caught_is_found_and_the_last_of_each_counts(tmp_path: Path) -> None:
    for name, each in (("one", replace(CAUGHT, caught=False)), ("two", CAUGHT)):
        (tmp_path / name).mkdir()
        canary.write(tmp_path / name / canary.NAME, [each])
    assert canary.found_in([tmp_path, tmp_path / "two"]) == [CAUGHT]


def test_a_torn_file_has_none(tmp_path: Path) -> None:
    canary.write(tmp_path / canary.NAME, [CAUGHT])
    whole = (tmp_path / canary.NAME).read_text()
    for torn in ("", whole[:-20], '[{"name": "order"}]', "3"):
        (tmp_path / canary.NAME).write_text(torn)
        assert canary.found_in([tmp_path]) == []
