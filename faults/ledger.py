"""What was seen of each fault, last time: committed with the table, so that whoever reads it knows what was run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """What came of one fault; `wrong` is nothing if it was caught and named. `seconds` are from the fault to the verdict."""

    caught: bool
    line: str
    wrong: str = ""
    seconds: float | None = None

    @property
    def is_named(self) -> bool:
        """Whether it was known for what it is."""
        return self.caught and not self.wrong


def read(file: Path) -> dict[str, Seen]:
    """What was seen by the names of the faults; nothing where there is no file."""
    return {name: Seen(**told) for name, told in json.loads(file.read_text()).items()} if file.exists() else {}


def write(file: Path, seen: Mapping[str, Seen]) -> None:
    """Replaces the file as a whole: a run that is cut off keeps what it has seen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    other = file.with_suffix(".new")
    told = {name: asdict(each) for name, each in sorted(seen.items())}
    other.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    other.replace(file)


def last_line(seen: Mapping[str, Seen]) -> str:
    """What a run came to, in one line."""
    seconds = sorted(each.seconds for each in seen.values() if each.is_named and each.seconds is not None)
    median = f"{seconds[len(seconds) // 2]:.1f} s" if seconds else "no time"
    caught, named = sum(each.caught for each in seen.values()), sum(each.is_named for each in seen.values())
    return f"faults: {caught} of {len(seen)} caught, {named} of {len(seen)} named, median {median} to the verdict"
