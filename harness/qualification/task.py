"""What a qualification is to do, as its folder has it: so that it can be gone on with, and its report says what is not done."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import told, whole_file
from harness.errors import InputError
from harness.journal import journal
from harness.journal.entry import Finished
from harness.qualification import canary
from harness.qualification.plan import Step

NAME = "plan.json"
RUNS = "runs"
# pytest's own: all passed, some failed, and no tests, as in an empty shard.
TO_ITS_END = (0, 1, 5)
_LOCK = ".lock"
_LONGEST = 200
# As `plan` names their step.
_CANARIES = "canaries"
# What does not make it another task.
_BESIDE = ("command", "damage")


@dataclass(frozen=True)
class Task:
    """What is qualified, by which harness, and the names of the steps; `words` is what each step runs, and how.

    `command` is what its user wrote; another one that asks for the same goes on with it. `damage` is what is wrong with an
    image of which no node can be made.
    """

    image: str
    tier: str
    steps: Sequence[str]
    options: Sequence[str] = ()
    shard: str = ""
    scenarios: str = ""
    words: Sequence[Sequence[str]] = ()
    canaries: Sequence[str] = ()
    harness: str = ""
    command: str = ""
    damage: str = ""

    @property
    def names_its_scenarios(self) -> bool:
        """Whether each machine runs only scenarios that the matrix names, so that the folder may have more."""
        machines = [words for name, words in zip(self.steps, self.words, strict=False) if name != _CANARIES]
        return bool(machines) and all(any(not word.startswith("-") for word in words) for words in machines)

    def unlike(self, other: "Task") -> Sequence[str]:
        """The names of what the other one has otherwise."""
        mine, others = asdict(self), asdict(other)
        return [name for name in mine if name not in _BESIDE and mine[name] != others[name]]

    def write(self, folder: Path) -> None:
        """Writes it down in its folder; raises OSError."""
        whole_file.write(folder / NAME, json.dumps(asdict(self), indent=1) + "\n")

    def undone(self, folder: Path) -> Iterator[str]:
        """The steps that did not come to their end, in words, or the shard, if it never began. A damaged image leaves none."""
        if self.damage:
            return
        if self.shard and not journal.any_in([folder]):
            # In the words in which `gathering` names a missing shard.
            yield f"shard {self.shard}"
            return
        part = f" of shard {self.shard}" if self.shard else ""
        for name in self.steps:
            step = Step(name, canaries=self.canaries if name == _CANARIES else ())
            if not is_done(folder, step):
                yield f"the run of {'the canaries' if step.canaries else f'the machine {name!r}'}{part}"


def check(steps: Sequence[Step]) -> None:
    """Raises InputError for steps that are none, or of which two would have one folder: one would count for both."""
    if not steps:
        raise InputError("No machine of the matrix is in this tier: name another --tier, or have one `from` it on.")
    names: dict[str, str] = {}
    for step in steps:
        if not step.folder.strip(".") or len(os.fsencode(step.folder)) > _LONGEST:
            raise InputError(f"No folder can be named after the machine {step.name!r}: rename it.")
        if step.folder in names:
            raise InputError(f"The machines {names[step.folder]!r} and {step.name!r} would have one folder: rename one.")
        names[step.folder] = step.name


def read(folder: Path) -> Task | None:
    """The task that a folder has, if any; raises InputError for one that is torn, or of another version."""
    file = folder / NAME
    try:
        return told.value(Task, json.loads(file.read_text())) if file.exists() else None
    except (ValueError, RecursionError) as torn:
        raise InputError(f"{file} is torn: name another folder, or remove this one.") from torn
    except OSError as refused:
        raise InputError(f"{file} cannot be read ({refused.strerror}): name another folder.") from refused


def found_in(folders: Iterable[Path]) -> dict[Path, Task]:
    """The tasks in some folders and below them, by their own folders."""
    places = dict.fromkeys(file.resolve().parent for folder in folders for file in sorted(folder.rglob(NAME)))
    return {place: task for place in places if (task := read(place))}


def is_done(folder: Path, step: Step) -> bool:
    """Whether a step of the task in a folder was run to its end; one that was cut off is run again as a whole."""
    place = folder / RUNS / step.folder
    if step.canaries:
        return {each.name for each in canary.found_in([place])} >= set(step.canaries)
    ends = [entry for file in place.glob("journal-*") for entry in journal.read(file) if isinstance(entry, Finished)]
    return any(end.status in TO_ITS_END for end in ends)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Has a folder for one qualification alone, which makes it; raises InputError where another one runs in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a")
    except OSError as refused:
        raise InputError(f"{folder} cannot be written ({refused.strerror}): name another folder.") from refused
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise InputError(f"another qualification runs in {folder}: name another folder, or wait for its end.") from busy
        yield
