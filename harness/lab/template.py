"""Templates: nodes that were booted once, frozen at a milestone, and are cloned as often as wanted.

A template is a folder in the cache, keyed by everything that it depends on. It is made under another name and renamed when it
is whole; its description, written last, holds what its files looked like then, and one that looks otherwise is not used.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.guest.credentials import Credentials
from harness.verdict.timeline import Passed

_FILES = ("disk.qcow2", "variables.fd", "memory", "state")


@dataclass(frozen=True)
class Template:
    """A frozen node: its files, and the milestones that it had passed."""

    folder: Path
    credentials: Credentials
    milestones: tuple[Passed, ...]

    @property
    def disk(self) -> Path:
        """The qcow2 disk on which the clones' own lie."""
        return self.folder / "disk.qcow2"

    @property
    def variables(self) -> Path:
        """The UEFI variable store that the clones copy."""
        return self.folder / "variables.fd"

    @property
    def memory(self) -> Path:
        """The guest's memory, which the clones map."""
        return self.folder / "memory"

    @property
    def state(self) -> Path:
        """The devices' state."""
        return self.folder / "state"


class Templates:
    """The templates in one folder of the cache, kept within `limit` bytes; they are made in `run_folder`."""

    def __init__(self, root: Path, limit: int, run_folder: Path) -> None:
        self._root, self._limit, self._run_folder = root, limit, run_folder
        root.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def get(self, facts: Mapping[str, str], make: Callable[[Path, Credentials], Sequence[Passed]]) -> Iterator[Template]:
        """Gives the template for these facts, made now if there is none, and keeps it from removal while it is used.

        `make` fills a folder with the frozen node's files and returns its milestones; it runs once, whoever else asks.
        """
        key = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]
        place = self._root / key
        with (self._root / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            template = _trusted(place)
            if template is None:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _trusted(place) is None:
                    self._make(place, facts, make)
                fcntl.flock(lock, fcntl.LOCK_SH)
                template = _trusted(place)
            if template is None:
                raise HarnessError(f"The template {place} changes while nobody may change it: use another --image-cache.")
            os.utime(place)
            yield template

    def _make(self, place: Path, facts: Mapping[str, str], make: Callable[[Path, Credentials], Sequence[Passed]]) -> None:
        making = Path(tempfile.mkdtemp(prefix="template-", dir=self._run_folder))
        milestones = [asdict(entry) for entry in make(making, Credentials.make(making))]
        # The run's folder may be on another disk than the cache: the name under which it counts comes last.
        moved = place.with_suffix(".making")
        for left in (moved, place):
            shutil.rmtree(left, ignore_errors=True)
        shutil.move(making, moved)
        description = {"facts": dict(facts), "milestones": milestones, "files": _looks_of(moved)}
        (moved / "template.json").write_text(json.dumps(description, indent=1) + "\n")
        moved.rename(place)
        self._make_room(place)

    def _make_room(self, newest: Path) -> None:
        """Removes the longest unused until the rest is within the limit; those in use stay."""
        places = sorted(self._root.glob("*/template.json"), key=lambda file: file.parent.stat().st_mtime, reverse=True)
        total = 0
        for place in (file.parent for file in places):
            total += sum(file.stat().st_blocks * 512 for file in place.iterdir())
            if total <= self._limit or place == newest:
                continue
            with (self._root / f"{place.name}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(place, ignore_errors=True)


def _trusted(place: Path) -> Template | None:
    """The template in a folder, if all of it is there and looks as it did when it was made."""
    try:
        description = json.loads((place / "template.json").read_text())
        if description["files"] != _looks_of(place):
            return None
        milestones = tuple(Passed(entry["name"], entry["after"], frozen=True) for entry in description["milestones"])
        return Template(place, Credentials(place), milestones)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _looks_of(place: Path) -> dict[str, list[int | str]]:
    """Size and time of the last change of each file, and the digest of those that are small enough to be read each time."""
    looks: dict[str, list[int | str]] = {}
    for name in _FILES:
        status = (place / name).stat()
        looks[name] = [status.st_size, status.st_mtime_ns]
    for name in ("variables.fd", "state"):
        looks[name].append(hashlib.sha256((place / name).read_bytes()).hexdigest())
    return looks
