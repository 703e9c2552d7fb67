"""What the canaries caught: a harness that does not fail where something is broken proves nothing where nothing fails."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

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
    file.write_text(json.dumps([asdict(each) for each in canaries], indent=1) + "\n")


def found_in(folders: Iterable[Path]) -> list[Canary]:
    """The canaries that were run, by what `python -m faults --canaries` wrote; of each the last."""
    files = sorted({file.resolve() for folder in folders for file in folder.rglob(NAME)}, key=lambda file: file.stat().st_mtime)
    return list({told["name"]: Canary(**told) for file in files for told in json.loads(file.read_text())}.values())
