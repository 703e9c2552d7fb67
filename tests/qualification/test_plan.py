"""The matrix and the plan made of it."""

import ast
from pathlib import Path

import pytest

from faults.sabotage import Outside
from faults.table import FAULTS
from harness.errors import InputError
from harness.qualification import matrix
from harness.qualification.plan import plan


def test_the_default_names_scenarios_and_breaks_that_exist() -> None:
    default = matrix.read(matrix.DEFAULT)
    scenarios = Path(__file__).parents[2] / "scenarios"
    for cell in default.cells:
        for scenario in cell.scenarios:
            assert (scenarios / scenario.partition("::")[0]).exists(), scenario
    assert {name for names in default.canaries.values() for name in names} <= FAULTS.keys()


def test_canaries_for_generation_b_are_of_scenarios_that_hold_there() -> None:
    default = matrix.read(matrix.DEFAULT).of_generation_b()
    assert default.canaries.keys() == set(matrix.TIERS)
    for name in {name for names in default.canaries.values() for name in names}:
        file, _, test = FAULTS[name].scenario.partition("::")
        module = ast.parse((Path(__file__).parents[2] / "scenarios" / file).read_text())
        (found,) = (each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == test.partition("[")[0])
        marks = [ast.unparse(mark) for mark in found.decorator_list]
        assert not any("generation('a'" in mark for mark in marks), name
        assert not isinstance(FAULTS[name].how, Outside), f"{name} breaks an image, which is none of generation B"


def test_a_matrix_without_canaries_for_generation_b_has_those_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("machines: [{name: a}]\ncanaries: {nightly: [x]}")
    assert matrix.read(tmp_path / "m.yaml").of_generation_b().canaries == {"nightly": ["x"]}


def test_each_tier_runs_more_and_its_canaries_second() -> None:
    tiers = [plan(matrix.read(matrix.DEFAULT), tier, {}) for tier in matrix.TIERS]
    assert len(tiers[0]) < len(tiers[1]) < len(tiers[2])
    for steps in tiers:
        assert steps[1].canaries
        assert len({step.folder for step in steps}) == len(steps)


def test_what_earlier_runs_took_is_what_a_step_may_take(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("machines: [{name: a}, {name: b, nic: e1000e, cpus: 2, start: cold, scenarios: [x.py]}]")
    steps = plan(matrix.read(tmp_path / "m.yaml"), "presubmit", {"nic e1000e, cpus 2, start cold": 7.0})
    assert [(step.options, step.seconds) for step in steps] == [
        (["--tier=presubmit"], 100.0),
        (["--nic=e1000e", "--cpus=2", "--cold"], 7.0),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no list `machines`"),
        ("machines: []", "no list `machines`"),
        ("machines: [{nic: e1000}]", "has none"),
        ("machines: [{name: a, floppy: 1}]", "'a' has floppy"),
        ("machines: [{name: a, from: dusk}]", "from 'dusk' on"),
        ("machines: [{name: a, start: hot}]", "starts 'hot'"),
        ("machines: [{name: a, repeats: {nightly: 0}}]", "`repeats` has a number"),
        ("machines: [{name: a}, {name: a}]", "two machines have one name"),
        ("machines: [{name: a}]\ncanaries: [x]", "`canaries` has a list"),
        ("machines: [{name: a}]\ncanaries-b: {dusk: [x]}", "`canaries-b` has a list"),
        ("machines: [", "cannot be read"),
        ("machines: [{name: a, nic: e1000, nic: e1000e}]", "'nic' is there twice"),
        ("machines: [{name: a}]\ncanary: {presubmit: [x]}", "has canary, which is none of machines"),
        ("machines: [{name: a}]\ncanaries: {presubmit: order-failure}", "`canaries` has a list"),
        ("machines: [{name: a, scenarios: order.py}]", "`scenarios` is a list"),
        ("machines: [{name: a, scenarios: ['']}]", "`scenarios` is a list"),
        ("machines: [{name: a, repeats: {dusk: 3}}]", "`repeats` has a number"),
        ("machines: [{name: a, repeats: {nightly: true}}]", "`repeats` has a number"),
        ("machines: [{name: a, nic: }]", "`nic` has one value"),
        ("machines: [{name: a, cpus: [1, 2]}]", "`cpus` has one value"),
    ],
)
def test_a_matrix_that_is_none_is_refused_with_what_is_wrong(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=why):
        matrix.read(tmp_path / "m.yaml")
