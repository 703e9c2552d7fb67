"""What the canaries caught: a harness that does not fail where something is broken proves nothing where nothing fails."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import told, whole_file

NAME = "canaries.json"


@dataclass(frozen=True)
class Canary:
    """A scenario that was run on something broken: whether it failed for that, and in which words."""

    name: str
    scenario: str
    broken: str
    caught: bool
    words: str


def write(file: Path, canaries: Iterable[Canary]) -> None:
    """Writes what was caught for a report to find."""
    whole_file.write(file, json.dumps([asdict(each) for each in canaries], indent=1) + "\n")


def found_in(folders: Iterable[Path]) -> list[Canary]:
    """The canaries that were run, by what `python -m faults --canaries` wrote; of a torn file none.

    One that was missed by any part of a whole counts as missed: its harness does not fail where it has to.
    """
    files = sorted({file.resolve() for folder in folders for file in folder.rglob(NAME)})
    found = [each for file in files for each in _read(file)]
    return list({each.name: each for each in sorted(found, key=lambda each: not each.caught)}.values())


def _read(file: Path) -> Sequence[Canary]:
    try:
        return told.values(Canary, json.loads(file.read_text()))
    except (ValueError, RecursionError):
        return ()
