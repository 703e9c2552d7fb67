"""What a report says, as values that JSON has: the page shows these and nothing else."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from harness.history.change import change_points
from harness.history.night import Night
from harness.journal.entry import Booted
from harness.journal.gathering import Attempt, Gathering, OneBoot
from harness.qualification.answer import Answer
from harness.qualification.canary import Canary
from harness.report import evidence, statistics
from harness.report.earlier import FORMAT, Earlier, Spread
from harness.report.evidence import Evidence

# Console, screen and wire are shown of as many failures as there is room for, in bytes on the page; the others' is in their
# artifacts.
_MOST_EVIDENCE, _ROOM = 20, 6_000_000
_MOST_WORDS = 1000
# A difference that is nobody's concern, whatever its p.
_SMALLEST_CHANGE = 0.02
_SIGNIFICANT = 0.05
# What a run's options choose of a machine beside that which a boot records. The size of the disk is taken as it was chosen, by
# the test or by these: by default it is twice the image's, and images of two sizes are to be compared.
_CHOSEN = ("disk-size", "firmware", "accelerator")
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
class Bar:
    """A boot: the seconds after QEMU's start at which it passed each stage, and its budgets.

    Its times may be compared with those of the same `group`; that of a boot that is compared with none is empty.
    """

    test: str
    node: str
    cell: str
    start: str
    group: str
    at: float
    seconds: float
    stages: Sequence[tuple[str, float, bool]]
    budgets: Mapping[str, float]


@dataclass(frozen=True)
class Difference:
    """A quantity in this report and in the one before; `p` is None where there is no sample to test, or too small a one."""

    group: str
    name: str
    unit: str
    before: float
    after: float
    shift: float
    p: float | None
    significant: bool

    @property
    def words(self) -> str:
        """As `kernel +1.9 s, p = 0.003`."""
        said = f"{self.name} {self.shift:+.3g} {self.unit}".rstrip()
        return said if self.p is None else f"{said}, p = {self.p:.2g}"


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
    circumstances = _circumstances(gathering)
    boots = [_bar(each, circumstances[each.run]) for each in gathering.boots]
    spreads = _spreads(boots)
    figures = _figures(gathering)
    differences = _differences(spreads, figures, beside.earlier) if beside.earlier else []
    hosts = [dict(host) for host in dict.fromkeys(tuple(run.began.host.items()) for run in gathering.runs)]
    changes = [each.words for each in differences if each.significant and each.p is not None]
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
        spreads=spreads,
        figures=figures,
        against=beside.name,
        differences=differences,
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


def _circumstances(gathering: Gathering) -> dict[str, list[str]]:
    """By run, what its boots have in common: what its options chose of the machine, and whether other tests ran beside them."""
    tests = Counter(run for run, _ in {(attempt.run, attempt.ended.test) for attempt in gathering.attempts})
    return {
        run.began.run: [
            *(f"{name} {run.began.machine[name]}" for name in _CHOSEN if name in run.began.machine),
            *(["beside other tests"] if tests[run.began.run] > 1 else []),
        ]
        for run in gathering.runs
    }


def _bar(boot: OneBoot, circumstances: Sequence[str]) -> Bar:
    booted = boot.booted
    stages = [(stage.name, stage.after, stage.frozen) for stage in booted.stages]
    return Bar(
        booted.test,
        f"{booted.node}, boot {booted.number}",
        boot.cell,
        booted.start,
        _group(booted, circumstances),
        booted.at,
        booted.seconds,
        stages,
        booted.budgets,
    )


def _group(booted: Booted, circumstances: Sequence[str]) -> str:
    """What boots have in common whose times may be compared: node, test, machine and pods; nothing for clones and later boots.

    `circumstances` are those of the run.
    """
    # Each test holds its boots up in its own way, and a later one finds what the first has left.
    if booted.start == "clone" or booted.number > 1:
        return ""
    machine = booted.machine
    pods = dict.fromkeys(name.partition("/")[0] for name in booted.budgets if "/" in name)
    memory = int(machine.get("memory", 0)) >> 20
    words = [
        machine.get("nic", ""),
        f"{machine.get('cpus', '?')} CPU",
        f"{memory} MiB",
        f"{machine.get('sector-size', '?')}-byte blocks",
        *circumstances,
    ]
    return f"{booted.node} of {booted.test}; {', '.join(words)}; pods: {', '.join(pods) or 'none'}"


def _spreads(boots: Iterable[Bar]) -> list[Spread]:
    """What each stage took in boots that passed all stages of their group, from the one that precedes it on the whole.

    One boot alone has no spread.
    """
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for boot in boots:
        if boot.group:
            groups[boot.group].append({name: after for name, after, _ in boot.stages if name not in ("shell", "kubelet-api")})
    spreads = []
    for group, found in sorted(groups.items()):
        whole = max((each.keys() for each in found), key=len)
        complete = [each for each in found if each.keys() == whole]
        if len(complete) == 1:
            continue
        order = sorted(whole, key=lambda name: median(each[name] for each in complete))
        for before, stage in zip(["", *order], order, strict=False):
            seconds = [round(each[stage] - each.get(before, 0.0), 3) for each in complete]
            spreads.append(Spread(group, stage, seconds, round(median(seconds), 3)))
        if order:
            ends = [max(each.values()) for each in complete]
            spreads.append(Spread(group, "in all", ends, round(median(ends), 3)))
    return spreads


def _figures(gathering: Gathering) -> list[tuple[str, str, float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for figure in gathering.figures:
        found[figure.name, figure.unit].append(figure.value)
    return [(name, unit, median(values)) for (name, unit), values in sorted(found.items())]


def _differences(spreads: Sequence[Spread], figures: Sequence[tuple[str, str, float]], earlier: Earlier) -> list[Difference]:
    before = earlier.seconds
    both = [(each, before[each.group, each.stage]) for each in spreads if before.get((each.group, each.stage))]
    changes = [statistics.compare(old, new.seconds) for new, old in both]
    ps = statistics.adjusted(changes, _SIGNIFICANT)
    found = [
        Difference(
            new.group,
            new.stage,
            "s",
            median(old),
            new.median,
            round(change.shift, 3),
            p,
            p is not None and p < _SIGNIFICANT and abs(change.shift) > _SMALLEST_CHANGE * max(median(old), 1.0),
        )
        for (new, old), change, p in zip(both, changes, ps, strict=True)
    ]
    known = {name: value for name, _, value in earlier.figures}
    found += [
        Difference("", name, unit, known[name], value, value - known[name], None, _is_another(unit, known[name], value))
        for name, unit, value in figures
        if name in known
    ]
    return sorted(found, key=lambda each: (not each.significant, -abs(each.shift) if each.unit == "s" else 0))


def _is_another(unit: str, before: float, after: float) -> bool:
    """Whether a figure changed: what is counted, which has no unit, by any difference, what is measured by one of note."""
    return abs(after - before) > (_SMALLEST_CHANGE * abs(before) if unit else 0.0)


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
