"""The boots of some runs as bars of a timeline, and how long boots of one kind took."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.journal.entry import Booted
from harness.journal.gathering import Gathering, OneBoot
from harness.report.earlier import Spread

# What a run's options choose of a machine beside that which a boot records. The size of the disk is taken as it was chosen, by
# the test or by these: by default it is twice the image's, and images of two sizes are to be compared.
_CHOSEN = ("disk-size", "firmware", "accelerator")


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


def bars(gathering: Gathering) -> list[Bar]:
    """Each boot of some runs."""
    circumstances = _circumstances(gathering)
    return [_bar(each, circumstances[each.run]) for each in gathering.boots]


def spreads(timeline: Iterable[Bar]) -> list[Spread]:
    """What each stage took in boots that passed all stages of their group, from the one that precedes it on the whole.

    One boot alone has no spread.
    """
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for bar in timeline:
        if bar.group:
            groups[bar.group].append({name: after for name, after, _ in bar.stages if name not in ("shell", "kubelet-api")})
    found = []
    for group, boots in sorted(groups.items()):
        whole = max((each.keys() for each in boots), key=len)
        complete = [each for each in boots if each.keys() == whole]
        if len(complete) == 1:
            continue
        order = sorted(whole, key=lambda name: median(each[name] for each in complete))
        for before, stage in zip(["", *order], order, strict=False):
            seconds = [round(each[stage] - each.get(before, 0.0), 3) for each in complete]
            found.append(Spread(group, stage, seconds, round(median(seconds), 3)))
        if order:
            ends = [max(each.values()) for each in complete]
            found.append(Spread(group, "in all", ends, round(median(ends), 3)))
    return found


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
