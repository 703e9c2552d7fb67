"""A run's journal: a file of JSON lines to which all processes of the run append, each entry at once and whole.

What a killed run had done is there; a line that it tore is left out.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from harness import told
from harness.errors import HarnessError, InputError
from harness.journal.entry import VERDICTS, Ended, Entry

_NAME = "journal-{}.jsonl"
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Entry)}
_WHAT = "entry"


class Journal:
    """The journal of one run in the folder of its artifacts, to be written to."""

    def __init__(self, folder: Path, run: str) -> None:
        """Opens it; the journals of other runs, whose artifacts this one replaces, go. HarnessError if it cannot be written."""
        self.folder, self.file = folder, folder / _NAME.format(run)
        try:
            for other in folder.glob(_NAME.format("*")):
                if other != self.file:
                    other.unlink(missing_ok=True)
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as refused:
            raise HarnessError(f"{self.file} cannot be written: {refused.strerror}") from refused

    def write(self, entry: Entry) -> None:
        """Appends an entry: one write, which no other process's comes between (write(2), O_APPEND)."""
        line = json.dumps({_WHAT: type(entry).__name__, **asdict(entry)}, ensure_ascii=False)
        # A full disk ends no test: what it has to tell is in pytest's own report too.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, self._break() + f"{line}\n".encode(errors="backslashreplace"))

    def _break(self) -> bytes:
        """What a line lacks that a full disk tore: the next one would be lost with it."""
        size = os.fstat(self._descriptor).st_size
        return b"" if not size or os.pread(self._descriptor, 1, size - 1) == b"\n" else b"\n"

    def relative(self, path: Path) -> str:
        """A path below the journal's folder, as the entries have it."""
        return os.path.relpath(path, self.folder)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._descriptor)


def found_in(folder: Path) -> list[Path]:
    """The journals in a folder and below it; raises InputError if there is none."""
    try:
        files = sorted(folder.rglob(_NAME.format("*")))
    except OSError as refused:
        raise InputError(f"{folder} cannot be read ({refused.strerror}): name a run's folder of artifacts.") from refused
    if not files:
        raise InputError(f"{folder} has no journal of a run ({_NAME.format('*')}): name a run's folder of artifacts.")
    return files


def run_of(file: Path) -> str:
    """The run whose journal a file is, by its name."""
    return file.stem.partition("-")[2]


def any_in(folders: Iterable[Path]) -> bool:
    """Whether there is a journal in one of some folders, or below it."""
    return any(True for folder in folders for _ in folder.rglob(_NAME.format("*")))


def read(file: Path) -> Iterator[Entry]:
    """Yields a journal's entries; what a later version wrote and this one does not know is left out, and so is half a line.

    Raises InputError where the file cannot be read; of one that a later run has just replaced there is none.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    yield _entry(json.loads(line))
    except FileNotFoundError:
        return
    except OSError as refused:
        raise InputError(f"{file} cannot be read: {refused.strerror}") from refused


def _entry(line: object) -> Entry:
    kind = _KINDS.get(str(line.get(_WHAT))) if isinstance(line, dict) else None
    if kind is None:
        raise ValueError("no entry")
    entry: Entry = told.value(kind, line)
    # One that nobody here knows is no verdict: its test then counts as not run to its end.
    if isinstance(entry, Ended) and entry.verdict not in VERDICTS:
        raise ValueError(f"no verdict: {entry.verdict}")
    return entry
