"""The machines that an image is qualified on, and the canaries, as data: a file of YAML, by default `machines.yaml` here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from harness.errors import InputError

TIERS = ("presubmit", "nightly", "release")
DEFAULT = Path(__file__).with_name("machines.yaml")
_DIMENSIONS = ("disk-size", "sector-size", "nic", "cpus", "memory", "firmware", "accelerator")
_STARTS = ("warm", "cold")
_MOST_REPEATS = 100
_KEYS = ("machines", "canaries", "canaries-b")


@dataclass(frozen=True)
class Cell:
    """One machine: the options that make it, the scenarios that run on it (none: all), and how often."""

    name: str
    tier: str = TIERS[0]
    options: Sequence[str] = ()
    scenarios: Sequence[str] = ()
    repeats: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """All machines, those that matter most first, and the names of the faults to be canaries, by tier.

    `canaries_b` are those for generation B of kiOS.
    """

    cells: Sequence[Cell]
    canaries: Mapping[str, Sequence[str]]
    canaries_b: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def of_generation_b(self) -> "Matrix":
        """The same with the canaries for that, if it has any."""
        return replace(self, canaries=self.canaries_b or self.canaries)


class _Once(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(problem=f"{twice[0]!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read(file: Path) -> Matrix:
    """Reads a matrix; raises InputError that says what is wrong in it."""
    try:
        told = yaml.load(file.read_text(), _Once)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as broken:
        raise InputError(f"{file} cannot be read: {broken}") from broken
    if not isinstance(told, dict) or not isinstance(told.get("machines"), list) or not told["machines"]:
        raise InputError(f"{file} has no list `machines`: see {DEFAULT}.")
    if unknown := told.keys() - _KEYS:
        raise InputError(f"{file} has {_listed(unknown)}, which is none of {', '.join(_KEYS)}.")
    cells = [_cell(file, each) for each in told["machines"]]
    if len({cell.name for cell in cells}) < len(cells):
        raise InputError(f"{file}: two machines have one name.")
    return Matrix(cells, _canaries(file, told, "canaries"), _canaries(file, told, "canaries-b"))


def _canaries(file: Path, told: Mapping[str, Any], key: str) -> Mapping[str, Sequence[str]]:
    canaries = told.get(key) or {}
    if not isinstance(canaries, dict) or not canaries.keys() <= set(TIERS) or not all(map(_are_names, canaries.values())):
        raise InputError(f"{file}: `{key}` has a list of names for each of {', '.join(TIERS)}.")
    return {tier: list(names or ()) for tier, names in canaries.items()}


def _are_names(told: Any) -> bool:
    return told is None or (isinstance(told, list) and all(isinstance(each, str) and each for each in told))


def _listed(keys: Iterable[Any]) -> str:
    return ", ".join(sorted(map(str, keys)))


def _cell(file: Path, told: Any) -> Cell:
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise InputError(f"{file}: each machine has a `name`, and this one has none: {told!r}.")
    where = f"{file}: the machine {told['name']!r}"
    if unknown := told.keys() - {"name", "from", "start", "scenarios", "repeats", *_DIMENSIONS}:
        raise InputError(f"{where} has {_listed(unknown)}, which is none of {', '.join(_DIMENSIONS)}, start.")
    tier, start, repeats = told.get("from", TIERS[0]), told.get("start", _STARTS[0]), told.get("repeats") or {}
    if tier not in TIERS:
        raise InputError(f"{where} is from {tier!r} on: write one of {', '.join(TIERS)}.")
    if start not in _STARTS:
        raise InputError(f"{where} starts {start!r}: write one of {', '.join(_STARTS)}.")
    if (
        not isinstance(repeats, dict)
        or not repeats.keys() <= set(TIERS)
        or not all(type(times) is int and 0 < times <= _MOST_REPEATS for times in repeats.values())
    ):
        raise InputError(f"{where}: `repeats` has a number up to {_MOST_REPEATS} for each tier, as {{nightly: 5}}.")
    if not _are_names(told.get("scenarios")):
        raise InputError(f"{where}: `scenarios` is a list of files, as [order.py].")
    if bad := [name for name in _DIMENSIONS if name in told and type(told[name]) not in (str, int)]:
        raise InputError(f"{where}: `{bad[0]}` has one value, and {told[bad[0]]!r} is none.")
    options = [f"--{name}={told[name]}" for name in _DIMENSIONS if name in told]
    return Cell(
        told["name"],
        tier,
        [*options, *(["--cold"] if start == "cold" else [])],
        told.get("scenarios") or (),
        repeats,
    )
