"""One night as a line: what a report came to, small enough to be kept for years in any folder or git branch."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import told
from harness.errors import InputError
from harness.history.branch import Branch

NAME = "nights.jsonl"
# The last second that has a date of four digits.
_LATEST = 253_402_300_799


@dataclass(frozen=True)
class Night:
    """One report: `name` tells two of them apart, `at` is when its first run began, in seconds of the epoch.

    `host` is what ran it, processors and accelerator: times are compared with those of nights that were run alike.
    `verdicts` has the worst of each test, `flakes` the share of attempts of a test that did not pass where some did,
    `milestones` the median seconds of each stage by the group of its boots, `figures` the medians of what was measured.
    """

    name: str
    at: float
    answer: str
    image: str = ""
    host: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    flakes: Mapping[str, float] = field(default_factory=dict)
    milestones: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def add(night: Night, place: Path) -> bool:
    """Appends a night to those in a folder, or on the branch of git's that `git:NAME` names.

    False where it is among them already.
    """
    if night.name in {known.name for known in read(place)}:
        return False
    line = json.dumps(asdict(night), sort_keys=True) + "\n"
    if branch := Branch.named_by(place):
        on = time.strftime("%Y-%m-%d", time.gmtime(min(max(night.at, 0), _LATEST)))
        branch.change(NAME, lambda nights: nights + _break_behind(nights.encode()) + line, f"The night of {on}")
        return True
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / NAME).open("ab+", buffering=0) as file:
            file.seek(-min(1, file.tell()), os.SEEK_END)
            # In one write: two that are added at a time stay whole.
            file.write((_break_behind(file.read(1)) + line).encode())
    except OSError as refused:
        raise InputError(f"{place / NAME} cannot be written ({refused.strerror}): name another folder.") from refused
    return True


def read(place: Path) -> Sequence[Night]:
    """The nights in a folder or on a branch, in the order of their time, each once; a line that is none is left out.

    Raises InputError where they cannot be read.
    """
    found = [_night(line) for line in _text(place).split("\n")]
    nights = {night.name: night for night in found if night}
    return sorted(nights.values(), key=lambda night: night.at)


def _break_behind(nights: bytes) -> str:
    """What a torn last line lacks, which would take the next one with it."""
    return "\n" if nights and not nights.endswith(b"\n") else ""


def _text(place: Path) -> str:
    if branch := Branch.named_by(place):
        return branch.read(NAME)
    file = place / NAME
    try:
        return file.read_text(errors="replace") if file.exists() else ""
    except OSError as refused:
        raise InputError(f"{file} cannot be read ({refused.strerror}): name another folder.") from refused


def _night(line: str) -> Night | None:
    try:
        return told.value(Night, json.loads(line))
    except (ValueError, RecursionError):
        return None
