"""Writes a report: the page and the JSON, of all the runs in some folders."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from harness import whole_file
from harness.errors import InputError
from harness.history import night
from harness.journal import gathering, journal
from harness.journal.gathering import Gathering
from harness.qualification import answer, canary, task
from harness.qualification.answer import Answer
from harness.report import content, earlier, page
from harness.report.content import Beside


def bind(
    folders: Sequence[Path],
    out: Path,
    *,
    against: Path | None = None,
    history: Path | None = None,
    excused: Iterable[str] = (),
    cut_short: str = "",
    damage: str = "",
    command: str = "",
) -> Answer:
    """Puts the runs in folders together, writes their report to `out`, and returns its answer.

    `damage` is what is wrong with an image of which no run could make a node, `command` what all runs were started by.

    Of a qualification that was not cut short just now, what it has left undone is missing.

    Raises InputError where there is no run, where `against` is no report, or where `out` cannot be written.
    """
    before = earlier.of(against) if against else None
    canaries = canary.found_in(folders)
    # A run that was cut short may have been so before its first test.
    gathered = Gathering() if cut_short and not journal.any_in(folders) else gathering.gather(folders)
    if not cut_short:
        undone = [each for place, known in task.found_in(folders).items() for each in known.undone(place)]
        gathered = replace(gathered, missing=[*gathered.missing, *undone])
    decided = answer.decide(gathered, canaries, excused, cut_short, damage)
    beside = Beside(str(against) if against else "", before, night.read(history) if history else (), command)
    composed = content.compose(gathered, decided, canaries, out, time.time(), beside)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # A report that is looked at is made anew as the run goes on.
        whole_file.write(out / earlier.NAME, composed.to_json())
        whole_file.write(out / page.NAME, page.render(composed, before.seconds if before else {}))
    except OSError as refused:
        raise InputError(f"The report cannot be written to {out} ({refused.strerror}): name another folder.") from refused
    return replace(decided, changes=composed.answer["changes"], others=composed.answer["others"])
