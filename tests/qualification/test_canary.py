"""What the canaries caught, as it is found again."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.qualification import canary
from harness.qualification.canary import Canary

CAUGHT = Canary("order", "order.py::test", "no parted", True, "it fails")


def test_what_was_caught_is_found_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        canary.write(tmp_path / name / canary.NAME, [CAUGHT])
    assert canary.found_in([tmp_path, tmp_path / "two"]) == [CAUGHT]


@pytest.mark.parametrize("place", ["one", "two"])
def test_one_that_any_part_missed_is_missed(tmp_path: Path, place: str) -> None:
    missed = replace(CAUGHT, caught=False)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        canary.write(tmp_path / name / canary.NAME, [missed if name == place else CAUGHT])
    assert canary.found_in([tmp_path]) == [missed]


def test_a_torn_file_has_none(tmp_path: Path) -> None:
    canary.write(tmp_path / canary.NAME, [CAUGHT])
    whole = (tmp_path / canary.NAME).read_text()
    for torn in ("", whole[:-20], '[{"name": "order"}]', "3", "[" * 100_000, whole.replace("true", '"no"')):
        (tmp_path / canary.NAME).write_text(torn)
        assert canary.found_in([tmp_path]) == []
