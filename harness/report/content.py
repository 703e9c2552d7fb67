"""What a report says, as values that JSON has: the page shows these and nothing else."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from harness.history.change import change_points
from harness.history.night import Night
from harness.journal.gathering import Attempt, Gathering
from harness.qualification.answer import Answer
from harness.qualification.canary import Canary
from harness.report import evidence
from harness.report.bar import Bar, bars, spreads
from harness.report.difference import Difference, differences
from harness.report.earlier import FORMAT, Earlier, Spread
from harness.report.evidence import Evidence

# Console, screen and wire are shown of as many failures as there is room for, in bytes on the page; the others' is in their
# artifacts.
_MOST_EVIDENCE, _ROOM = 20, 6_000_000
_MOST_WORDS = 1000
_UNASKED = ("blocked", "skipped", "elsewhere")
_WORST = ("failed", "error", "undone", "known", "passed", *_UNASKED)


@dataclass(frozen=True)
class Cell:
    """A promise on a machine: a verdict as a test's, `flaky` or `undone`, and the median of its seconds."""

    verdict: str
    seconds: float
    attempts: int
    passed: int
    reason: str = ""
    failure: int | None = None


@dataclass(frozen=True)
class Promise:
    """A test: what it promises, what it proves, how it asserts that, and how it ended on each machine."""

    test: str
    promise: str
    proves: str
    source: str
    pins: Mapping[str, str]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Failure:
    """An attempt that failed, or in which nothing could be told."""

    test: str
    cell: str
    verdict: str
    party: str
    sentence: str
    words: str
    artifacts: str
    evidence: Evidence | None


@dataclass(frozen=True)
class Curve:
    """A quantity over the nights; `changes` are the places of its change points, with the medians on either side."""

    name: str
    values: Sequence[float]
    changes: Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class Content:
    """All of a report."""

    made_at: float
    answer: Mapping[str, Any]
    commands: Sequence[str]
    harness: Sequence[str]
    facts: Mapping[str, Mapping[str, Sequence[str]]]
    hosts: Sequence[Mapping[str, str]]
    began: float
    ended: float
    runs: Sequence[Mapping[str, Any]]
    missing: Sequence[str]
    machines: Sequence[str]
    promises: Sequence[Promise]
    failures: Sequence[Failure]
    skipped: Sequence[tuple[str, Sequence[str]]]
    flakes: Sequence[tuple[str, str, int, int]]
    slowest: Sequence[tuple[str, str, float]]
    canaries: Sequence[Canary]
    boots: Sequence[Bar]
    spreads: Sequence[Spread]
    figures: Sequence[tuple[str, str, float]]
    against: str = ""
    differences: Sequence[Difference] = ()
    nights: Sequence[Night] = ()
    curves: Sequence[Curve] = ()
    format: int = FORMAT

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Beside:
    """What a report is seen beside: an earlier one, and the commands that started all."""

    name: str = ""
    earlier: Earlier | None = None
    commands: Sequence[str] = ()


def compose(
    gathering: Gathering, answer: Answer, canaries: Sequence[Canary], root: Path, made_at: float, beside: Beside
) -> Content:
    """Makes a report of some runs; paths in it are relative to `root`."""
    failures = [attempt for attempt in gathering.attempts if attempt.ended.verdict in ("failed", "error")]
    failures.sort(key=lambda attempt: attempt.ended.verdict != "failed")
    promises = _promises(gathering, failures)
    boots = bars(gathering)
    took = spreads(boots)
    figures = _figures(gathering)
    found = differences(took, figures, beside.earlier) if beside.earlier else []
    hosts = [dict(host) for host in dict.fromkeys(tuple(run.began.host.items()) for run in gathering.runs)]
    changes = [each.words for each in found if each.significant and each.p is not None]
    others = beside.earlier.others(gathering.facts, hosts) if beside.earlier else ()
    return Content(
        made_at=made_at,
        answer=asdict(replace(answer, changes=changes, others=others)),
        commands=beside.commands,
        harness=list(dict.fromkeys(run.began.harness for run in gathering.runs)),
        facts=gathering.facts,
        hosts=hosts,
        began=min((run.began.at for run in gathering.runs), default=made_at),
        ended=max((run.ended_at for run in gathering.runs), default=made_at),
        runs=[
            {
                "run": run.began.run,
                "machine": run.cell,
                "shard": run.began.shard,
                "step": run.folder.name,
                "seconds": round(run.ended_at - run.began.at, 1),
                "status": run.status,
                "undone": list(run.undone),
            }
            for run in gathering.runs
        ],
        missing=gathering.missing,
        machines=list(dict.fromkeys(run.cell for run in gathering.runs)),
        promises=promises,
        failures=list(_failures(failures, root)),
        skipped=_skipped(gathering),
        flakes=[
            (each.test, name, cell.attempts - cell.passed, cell.attempts)
            for each in promises
            for name, cell in each.cells.items()
            if cell.verdict == "flaky"
        ],
        slowest=sorted(
            ((attempt.ended.test, attempt.cell, sum(attempt.ended.seconds.values())) for attempt in gathering.attempts),
            key=lambda each: -each[2],
        )[:10],
        canaries=canaries,
        boots=boots,
        spreads=took,
        figures=figures,
        against=beside.name,
        differences=found,
    )


def among(report: Content, nights: Sequence[Night]) -> Content:
    """A report and the nights of a history, its own among them at its time, as `history add` would put it there."""
    own = night_of(Earlier.told_by(report.to_json()))
    # What the history has of it counts: it may have been added before.
    every = list({night.name: night for night in (own, *nights)}.values())
    every.sort(key=lambda night: night.at)
    return replace(report, nights=every, curves=_curves(every))


def night_of(report: Earlier) -> Night:
    """A report as a line of the history."""
    attempts = {each.test: [cell.verdict for cell in each.cells.values()] for each in report.promises}
    images = [values[0] for values in (report.facts.get("image") or report.facts.get("under test", {})).values() if values]
    return Night(
        # Of an image of which nothing could be run, there is the time alone.
        name="+".join(sorted(run.run[:8] for run in report.runs)) or f"at {report.began:.0f}",
        at=report.began,
        answer=report.answer.word,
        image=images[0] if images else "",
        host=report.host,
        verdicts={test: min(found, key=_worst) for test, found in attempts.items() if found},
        flakes={test: failed / attempts for test, _, failed, attempts in report.flakes},
        milestones={f"{each.stage} ({each.group})": each.median for each in report.spreads},
        figures={name: value for name, _, value in report.figures},
    )


def _worst(verdict: str) -> int:
    return _WORST.index(verdict) if verdict in _WORST else 0


def _promises(gathering: Gathering, failures: Sequence[Attempt]) -> list[Promise]:
    attempts: dict[str, dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for attempt in gathering.attempts:
        attempts[attempt.ended.test][attempt.cell].append(attempt)
    for run in gathering.runs:
        for test in run.undone:
            attempts[test].setdefault(run.cell, [])
    numbers = {id(attempt): number for number, attempt in enumerate(failures)}
    promises = []
    for test, cells in sorted(attempts.items()):
        planned = gathering.planned.get(test)
        found = {cell: _cell(each, numbers) for cell, each in cells.items()}
        told = (planned.promise, planned.proves, planned.source, dict(planned.pins)) if planned else ("", "", "", {})
        promises.append(Promise(test, *told, found))
    return promises


def _cell(attempts: Sequence[Attempt], numbers: Mapping[int, int]) -> Cell:
    if not attempts:
        return Cell("undone", 0.0, 0, 0, "it was not run to its end")
    verdicts = [attempt.ended.verdict for attempt in attempts]
    passed = verdicts.count("passed")
    worst = min(verdicts, key=_worst)
    verdict = "flaky" if passed and worst in ("failed", "error") else worst
    seconds = median(sum(attempt.ended.seconds.values()) for attempt in attempts)
    reason = next((attempt.ended.sentence for attempt in attempts if attempt.ended.verdict == worst), "")
    failure = next((numbers[id(attempt)] for attempt in attempts if id(attempt) in numbers), None)
    return Cell(verdict, round(seconds, 2), len(attempts), passed, reason, failure)


def _failures(attempts: Sequence[Attempt], root: Path) -> Iterator[Failure]:
    room = _ROOM
    for number, attempt in enumerate(attempts):
        ended, artifacts = attempt.ended, attempt.artifacts
        in_full = number < _MOST_EVIDENCE and room > 0
        found = evidence.of(artifacts, root, room) if in_full and artifacts and artifacts.is_dir() else None
        words = ended.words if in_full else ended.words[:_MOST_WORDS]
        room -= evidence.weight(asdict(found)) + evidence.weight(words) if found else 0
        place = evidence.relative(artifacts, root) if artifacts else ""
        yield Failure(ended.test, attempt.cell, ended.verdict, ended.party, ended.sentence, words, place, found)


def _skipped(gathering: Gathering) -> list[tuple[str, list[str]]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for attempt in gathering.attempts:
        ended = attempt.ended
        if ended.verdict in _UNASKED and ended.test not in reasons[ended.sentence]:
            reasons[ended.sentence].append(ended.test)
    for test, tier in gathering.left_out.items():
        reasons[f"left out by the tier {tier}" if tier else "left out by an option of pytest's"].append(test)
    return list(reasons.items())


def _figures(gathering: Gathering) -> list[tuple[str, str, float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for figure in gathering.figures:
        found[figure.name, figure.unit].append(figure.value)
    return [(name, unit, median(values)) for (name, unit), values in sorted(found.items())]


def _curves(nights: Sequence[Night]) -> list[Curve]:
    """A curve for each quantity, and for each host where there are several: what one is slower by is no change."""
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for night in nights:
        for name, value in {**night.milestones, **night.figures}.items():
            series[name, night.host].append(value)
    are_many = len({night.host for night in nights}) > 1
    return [
        Curve(f"{name} on {host}" if are_many and host else name, values, [astuple(point) for point in change_points(values)])
        for (name, host), values in series.items()
    ]
