"""One night as a line: what a report came to, small enough to be kept for years in any folder or git branch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.errors import InputError

NAME = "nights.jsonl"


@dataclass(frozen=True)
class Night:
    """One report: `name` tells two of them apart, `at` is when its first run began, in seconds of the epoch.

    `verdicts` has the worst of each test, `flakes` the share of attempts of a test that did not pass where some did,
    `milestones` the median seconds of each stage by the group of its boots, `figures` the medians of what was measured.
    """

    name: str
    at: float
    answer: str
    image: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    flakes: Mapping[str, float] = field(default_factory=dict)
    milestones: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def add(night: Night, folder: Path) -> bool:
    """Appends a night to those in a folder; False where it is among them already."""
    if night.name in {known.name for known in read(folder)}:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / NAME).open("a") as file:
            file.write(json.dumps(asdict(night), sort_keys=True) + "\n")
    except OSError as refused:
        raise InputError(f"{folder / NAME} cannot be written ({refused.strerror}): name another folder.") from refused
    return True


def read(folder: Path) -> Sequence[Night]:
    """The nights in a folder, in the order of their time; a line that is none is left out."""
    file = folder / NAME
    nights = [_night(line) for line in (file.read_text().splitlines() if file.exists() else ())]
    return sorted((night for night in nights if night), key=lambda night: night.at)


def _night(line: str) -> Night | None:
    try:
        told: dict[str, Any] = json.loads(line)
        return Night(**{each.name: told[each.name] for each in fields(Night) if each.name in told})
    except (ValueError, TypeError):
        return None
