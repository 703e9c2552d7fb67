"""What the canaries caught: a harness that does not fail where something is broken proves nothing where nothing fails."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import whole_file

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
    """The canaries that were run, by what `python -m faults --canaries` wrote; of each the last, and of a torn file none."""
    files = sorted({file.resolve() for folder in folders for file in folder.rglob(NAME)}, key=lambda file: file.stat().st_mtime)
    return list({each.name: each for file in files for each in _read(file)}.values())


def _read(file: Path) -> Iterator[Canary]:
    with contextlib.suppress(ValueError, TypeError):
        yield from [Canary(**told) for told in json.loads(file.read_text())]
