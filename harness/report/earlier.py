"""A report that was written, as it is read again: to hold another one against it, or for a line of the history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import told
from harness.errors import InputError

NAME = "report.json"
FORMAT = 2
# What a boot's time depends on beside the image.
_SURROUNDINGS = ("QEMU", "firmware", "accelerator", "CPUs")


@dataclass(frozen=True)
class Spread:
    """What one stage took in the boots of a group (see `content`), in seconds from the stage before it."""

    group: str
    stage: str
    seconds: Sequence[float]
    median: float


@dataclass(frozen=True)
class OneAnswer:
    """Its answer's word."""

    word: str


@dataclass(frozen=True)
class OneRun:
    """A run in it: its name, its machine in words, how long it took, and the folder of its step in a qualification."""

    run: str
    machine: str
    seconds: float
    step: str = ""


@dataclass(frozen=True)
class OneCell:
    """How a promise ended on a machine."""

    verdict: str


@dataclass(frozen=True)
class OnePromise:
    """A test and how it ended on each machine."""

    test: str
    cells: Mapping[str, OneCell]


@dataclass(frozen=True)
class Earlier:
    """What counts of it (see `content.Content`)."""

    began: float
    answer: OneAnswer
    runs: Sequence[OneRun]
    spreads: Sequence[Spread]
    figures: Sequence[tuple[str, str, float]]
    promises: Sequence[OnePromise]
    flakes: Sequence[tuple[str, str, int, int]]
    facts: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    hosts: Sequence[Mapping[str, str]] = ()
    harness: Sequence[str] = ()

    @classmethod
    def told_by(cls, text: str) -> "Earlier":
        """That of a report as JSON; raises ValueError for what is none."""
        return told.value(cls, json.loads(text))

    @property
    def seconds(self) -> dict[tuple[str, str], Sequence[float]]:
        """Those of each group's stages."""
        return {(each.group, each.stage): each.seconds for each in self.spreads}

    @property
    def host(self) -> str:
        """What ran its nodes, as far as times depend on it."""
        names = ("CPUs", "accelerator")
        return ", ".join(filter(None, (_listed(_known(self.facts, self.hosts, name)) for name in names)))

    def others(self, facts: Mapping[str, Mapping[str, Sequence[str]]], hosts: Sequence[Mapping[str, str]]) -> list[str]:
        """What ran its nodes otherwise, so that times differ for that too, as `QEMU: 10.0 then, 11.1 now`."""
        pairs = [(name, _known(self.facts, self.hosts, name), _known(facts, hosts, name)) for name in _SURROUNDINGS]
        return [
            f"{name}: {_listed(then)} then, {_listed(now)} now" for name, then, now in pairs if then and now and then != now
        ]


def _known(facts: Mapping[str, Mapping[str, Sequence[str]]], hosts: Sequence[Mapping[str, str]], name: str) -> set[str]:
    values = [*facts.get("host", {}).get(name, ()), *(host[name] for host in hosts if name in host)]
    # Behind the accelerator stands its reason, in which no two hosts are alike.
    return {value.partition(" (")[0] for value in values}


def _listed(values: set[str]) -> str:
    # Runs of several hosts begin in any order.
    return " / ".join(sorted(values))


def read(named: Path) -> dict[str, Any]:
    """A report as JSON has it, by its file or its folder; raises InputError for what is none."""
    return _read(named)[0]


def of(named: Path) -> Earlier:
    """What counts of a report; raises InputError for what is none."""
    return _read(named)[1]


def _read(named: Path) -> tuple[dict[str, Any], Earlier]:
    file = named
    try:
        file = named / NAME if named.is_dir() else named
        report = json.loads(file.read_text())
        if report["format"] == FORMAT:
            return report, told.value(Earlier, report)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as unfit:
        raise InputError(f"{file} is no report ({unfit}): name the folder that --out named, or {NAME} in it.") from unfit
    raise InputError(f"{file} is a report of another format: make it again with this harness.")
