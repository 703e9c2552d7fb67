"""Writes a report: the page and the JSON, of all the runs in some folders."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness import whole_file
from harness.errors import InputError
from harness.history import night
from harness.journal import gathering, journal
from harness.journal.gathering import Gathering
from harness.qualification import answer, canary, task
from harness.qualification.answer import Answer
from harness.qualification.task import Task
from harness.report import content, earlier, page
from harness.report.content import Beside

_NAMED_ALONE = "only scenarios that the matrix names were run"


def bind(
    folders: Sequence[Path],
    out: Path,
    *,
    against: Path | None = None,
    history: Path | None = None,
    excused: Iterable[str] = (),
    cut_short: str = "",
) -> Answer:
    """Puts the runs in folders together, writes their report to `out`, and returns its answer.

    What a plan in them has left undone is missing. `cut_short` is why the runs of a qualification ended early just now.

    Raises InputError for a folder with neither run nor plan, where `against` is no report, or where `out` cannot be written.
    """
    before = earlier.of(against) if against else None
    canaries = canary.found_in(folders)
    tasks = task.found_in(folders)
    # A run that was cut short may have been so before its first test.
    gathered = gathering.gather(each for each in folders if journal.any_in([each]) or not (cut_short or _has_any(each, tasks)))
    undone = [words for place, known in tasks.items() for words in known.undone(place)]
    gathered = replace(gathered, missing=list(dict.fromkeys([*gathered.missing, *undone])))
    damage = list(dict.fromkeys(known.damage for known in tasks.values() if known.damage))
    limits = [_NAMED_ALONE] if tasks and all(known.names_its_scenarios for known in tasks.values()) else []
    decided = answer.decide(gathered, canaries, excused, cut_short, damage, limits)
    commands = list(dict.fromkeys(_commands(gathered, tasks)))
    beside = Beside(str(against) if against else "", before, commands)
    composed = content.compose(gathered, decided, canaries, out, time.time(), beside)
    composed = content.among(composed, night.read(history)) if history else composed
    try:
        out.mkdir(parents=True, exist_ok=True)
        # A report that is looked at is made anew as the run goes on.
        whole_file.write(out / earlier.NAME, composed.to_json())
        whole_file.write(out / page.NAME, page.render(composed, before.seconds if before else {}))
    except OSError as refused:
        raise InputError(f"The report cannot be written to {out} ({refused.strerror}): name another folder.") from refused
    return replace(decided, changes=composed.answer["changes"], others=composed.answer["others"])


def _has_any(folder: Path, tasks: Mapping[Path, Task]) -> bool:
    return any(place.is_relative_to(folder.resolve()) for place in tasks)


def _commands(gathered: Gathering, tasks: Mapping[Path, Task]) -> Iterator[str]:
    """The commands that started it all: those of the plans, and those of the runs beside them."""
    planned = {place: known.command for place, known in tasks.items() if known.command}
    yield from planned.values()
    for run in gathered.runs:
        if not any(run.folder.resolve().is_relative_to(place) for place in planned):
            yield run.began.command
