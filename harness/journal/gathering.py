"""Runs gathered from their journals: shards, repeats and the cells of a matrix as one whole, in which nothing counts twice."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.journal import journal
from harness.journal.entry import Began, Booted, Ended, Entry, Fact, Figure, Finished, LeftOut, Planned, Started

# The name of a machine whose dimensions are all defaults.
PLAIN = "as the scenario has it"
# The kind of a fact that is a digest of what is tested.
UNDER_TEST = "under test"
# The part of a test's name by which `--repeat` numbers its times.
_TIME = re.compile(r"\[\d+of\d+\]$|-\d+of\d+(?=\]$)")


@dataclass(frozen=True)
class Run:
    """One run: its beginning, its folder, pytest's exit status (None: it was cut off), and what it left undone.

    `tested` has the digests of what it tested, as far as it came to that.
    """

    began: Began
    folder: Path
    ended_at: float
    status: int | None = None
    undone: Sequence[str] = ()
    tested: frozenset[str] = frozenset()

    @property
    def cell(self) -> str:
        """The machine that its options made, in words."""
        return cell_of(self.began.machine)


@dataclass(frozen=True)
class Attempt:
    """One time that a test was run; `folder` is that of its run."""

    run: str
    cell: str
    ended: Ended
    folder: Path

    @property
    def artifacts(self) -> Path | None:
        """What is left of it."""
        return self.folder / self.ended.artifacts if self.ended.artifacts else None


@dataclass(frozen=True)
class OneBoot:
    """One boot, and the machine that the options of its run made."""

    run: str
    cell: str
    booted: Booted


@dataclass(frozen=True)
class Gathering:
    """All that is known of some runs. `facts` has a value for each kind and name, or several where runs differ.

    `left_out` has the tests that no run was to run, with the tier that lacks them: nothing for one that lacks them otherwise.
    `missing` says what is not there although some run says that it belongs to the whole.
    """

    runs: Sequence[Run] = ()
    planned: Mapping[str, Planned] = field(default_factory=dict)
    attempts: Sequence[Attempt] = ()
    boots: Sequence[OneBoot] = ()
    figures: Sequence[Figure] = ()
    facts: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def gather(folders: Iterable[Path]) -> Gathering:
    """Puts the runs in some folders together; a run that is there twice counts once. InputError where there is none."""
    entries: dict[str, tuple[Path, list[Entry]]] = {}
    torn: dict[str, Path] = {}
    for folder in folders:
        for file in journal.found_in(folder):
            read = list(journal.read(file))
            run = next((entry.run for entry in read if isinstance(entry, Began)), None)
            # A copy of a journal may have been made before its run had ended.
            if run is not None and len(read) > len(entries.get(run, (file, []))[1]):
                entries[run] = (file.parent, read)
            elif run is None:
                torn[journal.run_of(file)] = file
    together = _together(entries.values())
    headless = [f"the beginning of {file}" for run, file in torn.items() if run not in entries]
    return replace(together, missing=[*together.missing, *headless])


def promise_of(test: str) -> str:
    """The test of which one by this name is one time of many: `a.py::test_it[4]` of `a.py::test_it[4-1of5]`."""
    return _TIME.sub("", test)


def cell_of(machine: Mapping[str, str]) -> str:
    """What the options chose of a machine, in words."""
    return ", ".join(f"{name} {value}" for name, value in machine.items()) or PLAIN


def _together(journals: Iterable[tuple[Path, Sequence[Entry]]]) -> Gathering:
    runs: list[Run] = []
    planned: dict[str, Planned] = {}
    attempts: list[Attempt] = []
    boots: list[OneBoot] = []
    figures: list[Figure] = []
    facts: dict[str, dict[str, list[str]]] = {}
    left_out: dict[str, str] = {}
    for folder, entries in sorted(journals, key=lambda each: _began(each[1]).at):
        run = _run(folder, entries)
        runs.append(run)
        for entry in entries:
            match entry:
                case Planned():
                    planned[promise_of(entry.test)] = replace(entry, test=promise_of(entry.test))
                case LeftOut():
                    left_out[promise_of(entry.test)] = entry.tier
                case Ended():
                    attempts.append(Attempt(run.began.run, run.cell, replace(entry, test=promise_of(entry.test)), folder))
                case Booted():
                    boots.append(OneBoot(run.began.run, run.cell, replace(entry, test=promise_of(entry.test))))
                case Figure():
                    figures.append(replace(entry, test=promise_of(entry.test)))
                case Fact():
                    values = facts.setdefault(entry.kind, {}).setdefault(entry.name, [])
                    if entry.value not in values:
                        values.append(entry.value)
    left_out = {test: tier for test, tier in left_out.items() if test not in planned}
    return Gathering(runs, planned, attempts, boots, figures, facts, _missing(runs), left_out)


def _began(entries: Sequence[Entry]) -> Began:
    return next(entry for entry in entries if isinstance(entry, Began))


def _run(folder: Path, entries: Sequence[Entry]) -> Run:
    began = _began(entries)
    ended = {entry.test for entry in entries if isinstance(entry, Ended)}
    undone = [promise_of(entry.test) for entry in entries if isinstance(entry, Planned) and entry.test not in ended]
    statuses = [entry.status for entry in entries if isinstance(entry, Finished)]
    times = [entry.at for entry in entries if isinstance(entry, Began | Started | Ended | Finished)]
    tested = frozenset(entry.value for entry in entries if isinstance(entry, Fact) and entry.kind == UNDER_TEST)
    return Run(began, folder, max(times), statuses[-1] if statuses else None, list(dict.fromkeys(undone)), tested)


def _missing(runs: Sequence[Run]) -> list[str]:
    """The shards that no run was, of those wholes of which some run was a shard."""
    there: dict[tuple[str, int], set[int]] = {}
    for run in runs:
        if match := re.fullmatch(r"(\d+)/(\d+)", run.began.shard):
            there.setdefault((run.cell, int(match[2])), set()).add(int(match[1]))
    return [
        f"shard {number}/{count}" + ("" if cell == PLAIN else f" of the machine with {cell}")
        for (cell, count), numbers in there.items()
        for number in range(1, count + 1)
        if number not in numbers
    ]
