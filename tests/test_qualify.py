"""A qualification as a whole, of scenarios that boot nothing: its answer, its end from outside, and how it is gone on with."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import main
from harness.lab.generation import Generation
from harness.qualification import task
from harness.qualification.plan import Step
from harness.qualify import Wish, _environment, qualify
from harness.report import earlier
from tests.lab.loader_disks import SYSTEMD_BOOT, with_loader

_ROOT = Path(__file__).parents[1]
_MACHINES = "machines: [{name: plain}, {name: other, nic: e1000e, scenarios: [one.py]}]"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/pytest.ini").write_text("[pytest]\npython_files = *.py\naddopts = -p no:hypothesispytest\n")
    (tmp_path / "scenarios/one.py").write_text("def test_one(artifacts): pass\n")
    (tmp_path / "m.yaml").write_text(_MACHINES)
    (tmp_path / "out/canaries").mkdir(parents=True)
    caught = {"name": "c", "scenario": "one.py", "broken": "all", "caught": True, "words": "it fails"}
    (tmp_path / "out/canaries/canaries.json").write_text(json.dumps([caught]))
    return tmp_path


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start more takes longer than what is run here."""
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "0")


def arguments(place: Path, *more: str) -> list[str]:
    named = {"--out": "out", "--matrix": "m.yaml", "--scenarios": "scenarios"}
    paths = [word for option, name in named.items() for word in (option, str(place / name))]
    return ["qualify", *paths, "--tier", "presubmit", *more]


def content_of(place: Path, folder: str = "out/report") -> dict[str, Any]:
    return earlier.read(place / folder)


def _journal(place: Path) -> list[str]:
    return [line for file in place.glob("out/runs/plain/journal-*") for line in file.read_text().splitlines()]


def test_what_holds_everywhere_is_qualified(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("qualified: 1 promise proven on 2 machines")
    report = earlier.read(place / "out/report")
    assert report["machines"] == ["as the scenario has it", "nic e1000e"]
    assert (place / "out/report/report.html").exists()


def test_several_nodes_run_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    meets = "    (here / '{}').touch()\n    while not (here / '{}').exists(): time.sleep(0.01)\n"
    (place / "scenarios/one.py").write_text(
        f"import pathlib, time\nhere = pathlib.Path({str(place)!r})\n"
        f"def test_one(artifacts):\n{meets.format('a', 'b')}def test_two(artifacts):\n{meets.format('b', 'a')}"
    )
    assert main(arguments(place)) == 0


_OF_TWO_TIERS = """
import pytest
@pytest.mark.presubmit
def test_one(artifacts): pass
def test_two(artifacts): pass
"""


def test_what_a_tier_leaves_out_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scenarios/one.py").write_text(_OF_TWO_TIERS)
    (place / "m.yaml").write_text("machines: [{name: plain}]")
    assert main(arguments(place)) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "qualified: 1 promise proven on 1 machine; 1 left out by the tier presubmit; 1 of 1 canary caught"
    assert ["left out by the tier presubmit", ["one.py::test_two"]] in content_of(place)["skipped"]


def test_a_matrix_that_names_all_its_scenarios_says_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scenarios/two.py").write_text("def test_two(artifacts): pass\n")
    (place / "m.yaml").write_text("machines: [{name: plain, nic: e1000e, scenarios: [one.py]}]\ncanaries: {}")
    assert main(arguments(place)) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("qualified: 1 promise proven on 1 machine; only scenarios that the matrix names were run; ")


def test_what_an_option_leaves_out_is_proven_by_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scenarios/one.py").write_text(_OF_TWO_TIERS)
    (place / "m.yaml").write_text("machines: [{name: plain}]")
    left_out = arguments(place, "--tier", "release", "--", "-k", "test_one")
    assert main(left_out) == 2
    assert "could not tell: nothing proved one.py::test_two (an option of pytest's left it out)" in capsys.readouterr().out


def test_a_node_that_fails_is_not_qualified(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "scenarios/one.py").open("a") as scenario:
        scenario.write("from harness.errors import NodeFailure\ndef test_two(artifacts): raise NodeFailure('CRI-O died')\n")
    assert main(arguments(place)) == 1
    assert "test_two: CRI-O died" in capsys.readouterr().out.splitlines()[-1]


def test_a_host_that_fails_a_test_could_not_tell_of_that_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "scenarios/one.py").open("a") as scenario:
        scenario.write(
            "from harness.errors import HarnessError\ndef test_two(artifacts): raise HarnessError('QEMU was killed')\n"
        )
    assert main(arguments(place)) == 2
    said = capsys.readouterr().out
    assert "test_two: QEMU was killed" in said.splitlines()[-1]
    assert "pytest ended with status" not in said


def test_a_run_that_never_began_could_not_tell(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "--", "--no-such-option")) == 2
    assert "could not tell: plain: pytest ended with status 4" in capsys.readouterr().out
    assert (place / "out/report/report.html").exists()


@pytest.mark.parametrize(("bytes_of", "why"), [(b"", "is an empty file"), (b"PDF" * 4000, "is not a GPT disk image")])
def test_an_image_that_is_none_is_not_qualified(
    place: Path, bytes_of: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "kios.img").write_bytes(bytes_of)
    assert main(arguments(place, "--kios-image", str(place / "kios.img"))) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not qualified: ")
    assert why in last
    report = content_of(place)
    assert (report["answer"]["word"], report["runs"]) == ("not qualified", [])


def test_a_folder_above_another_qualifications_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "kios.img").write_bytes(b"")
    assert main([*arguments(place, "--kios-image", str(place / "kios.img")), "--out", str(place / "out/damaged")]) == 1
    assert main(arguments(place)) == 2
    assert "out holds other runs, which would count" in capsys.readouterr().err


def test_a_generation_of_nothing_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "--generation", "b")) == 2
    assert "name that too, with --kios-image FILE" in capsys.readouterr().err


def test_a_whole_plan_beside_one_of_named_scenarios_is_said_to_be_whole(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "out").rename(place / "whole")
    assert main([*arguments(place), "--out", str(place / "whole")]) == 0
    (place / "m.yaml").write_text("machines: [{name: some, nic: e1000e, scenarios: [one.py]}]")
    assert main([*arguments(place), "--out", str(place / "named")]) == 2
    assert main(["report", str(place / "whole"), str(place / "named"), "--out", str(place / "report")]) == 0
    assert "only scenarios that the matrix names" not in capsys.readouterr().out.splitlines()[-1]


def test_what_cannot_be_asked_could_not_be_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "--kios-image", str(place / "no.img"))) == 2
    assert main(["report", str(place / "nowhere"), "--out", str(place / "report")]) == 2
    assert "There is no file" in capsys.readouterr().err


@pytest.fixture
def outputs(tmp_path: Path) -> list[str]:
    """Options that name what a build of generation B leaves, as far as it is looked at before anything boots."""
    (tmp_path / "modules/6.12.9").mkdir(parents=True)
    (tmp_path / "modules/6.12.9/modules.dep").write_text("kernel/nvme.ko:\n")
    (tmp_path / "Bootx64.efi").write_bytes(b"MZ" + bytes(100))
    (tmp_path / "initrd").write_bytes(b"070701")
    named = {"--kios-efi": "Bootx64.efi", "--kios-modules": "modules", "--kios-initrd": "initrd"}
    return [word for option, name in named.items() for word in (option, str(tmp_path / name))]


def test_build_outputs_of_generation_b_are_qualified_with_canaries_of_its_own(place: Path, outputs: list[str]) -> None:
    (place / "m.yaml").write_text(f"{_MACHINES}\ncanaries-b: {{presubmit: [order-failure]}}")
    assert main(arguments(place, *outputs, "--budget", "0.5")) == 2
    assert json.loads((place / "out/plan.json").read_text())["steps"] == ["plain", "canaries", "other"]
    assert shlex.join(outputs) in "".join(_journal(place))


@pytest.mark.parametrize(("named", "canaries"), [(None, ["b", "c"]), (Generation.B, ["b", "c"]), (Generation.A, ["a"])])
def test_a_disk_whose_loader_starts_generation_b_is_qualified_with_its_canaries(
    place: Path, monkeypatch: pytest.MonkeyPatch, named: Generation | None, canaries: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    raw = with_loader(place, SYSTEMD_BOOT)
    (place / "m.yaml").write_text("machines: [{name: plain}]\ncanaries: {presubmit: [a]}\ncanaries-b: {presubmit: [b, c]}")
    looked = Wish(
        raw, place / "out", "presubmit", place / "m.yaml", scenarios=place / "scenarios", minutes=0.0001, generation=named
    )
    chosen: list[str] = []

    def run_all(_: Wish, steps: Sequence[Step], __: object) -> str:
        chosen.extend(steps[1].canaries)
        return ""

    monkeypatch.setattr("harness.qualify._run_all", run_all)
    monkeypatch.setattr("harness.qualify._bind", lambda *_: None)
    qualify(looked, SimpleNamespace(close=lambda: None))  # type: ignore[arg-type]
    assert chosen == canaries
    assert ("--generation" in looked.under_test) == (named is not None)


def test_build_outputs_that_lack_a_part_cannot_be_asked(place: Path, outputs: list[str]) -> None:
    assert main(arguments(place, *outputs[:4])) == 2
    assert not (place / "out/plan.json").exists()


def test_a_report_is_there_from_the_first_step_on(place: Path) -> None:
    (place / "m.yaml").write_text("machines: [{name: plain}, {name: other, nic: e1000e, scenarios: [two.py]}]")
    (place / "scenarios/two.py").write_text(
        "import json\nfrom pathlib import Path\ndef test_two(artifacts, request):\n"
        "    if request.config.getoption('nic') == 'e1000e':\n"
        "        told = json.loads((Path(__file__).parents[1] / 'out/report/report.json').read_text())\n"
        "        assert told['answer']['why'].startswith('it had come to plain, 1 of 2 steps, when this was written')\n"
    )
    assert main(arguments(place)) == 0
    assert content_of(place)["commands"] == [shlex.join(["kios-e2e", *arguments(place)])]


def test_a_budget_leaves_out_and_says_what(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "--budget", "0.5")) == 2
    assert "the budget of 0.5 minutes left out: other" in capsys.readouterr().out


def test_a_report_of_what_a_budget_left_out_qualifies_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place, "--budget", "0.5")) == 2
    assert main(["report", str(place / "out"), "--out", str(place / "again")]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "could not tell: the run of the machine 'other' is missing"


def test_a_node_that_fails_hides_no_budget(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scenarios/one.py").write_text(
        "from harness.errors import NodeFailure\ndef test_one(artifacts): raise NodeFailure('CRI-O died')\n"
    )
    assert main(arguments(place, "--budget", "0.5")) == 1
    why = "one.py::test_one: CRI-O died"
    assert capsys.readouterr().out.splitlines()[-1] == f"not qualified: {why}"
    left_out = ["the budget of 0.5 minutes left out: other", "the run of the machine 'other' is missing"]
    assert content_of(place)["answer"]["reasons"] == [why, *left_out]


@pytest.mark.parametrize("budget", ["0", "-1", "nan", "soon"])
def test_a_budget_that_is_none_is_refused(place: Path, budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments(place, "--budget", budget))
    assert refused.value.code == 2
    assert not (place / "out/plan.json").exists()


@pytest.mark.parametrize("pattern", ["", "*", "?*"])
def test_not_every_test_is_excused(place: Path, pattern: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments(place, "--excuse", pattern))
    assert refused.value.code == 2


@pytest.mark.parametrize("raised", [ZeroDivisionError("x"), PermissionError(13, "no"), KeyboardInterrupt()])
def test_whatever_hinders_an_answer_it_could_not_tell(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise raised

    monkeypatch.setattr("harness.qualification.matrix.read", fails)
    monkeypatch.setattr("harness.report.binder.bind", fails)
    assert main(arguments(place)) == 2
    assert main(["report", str(place), "--out", str(place / "report")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("kios-e2e: could not tell: ")


def test_a_crash_leaves_a_report_that_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr("harness.qualify._run", fails)
    assert main(arguments(place)) == 2
    assert content_of(place)["answer"]["why"].startswith("the harness itself failed (ZeroDivisionError: a mistake)")


@pytest.mark.parametrize("option", ["--against", "--scenarios", "--matrix", "--history"])
def test_what_cannot_be_looked_at_is_named_and_no_fault_of_the_harness(
    place: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, option, "x" * 300)) == 2
    said = capsys.readouterr().err
    assert said.startswith("kios-e2e: could not tell: ")
    assert "xxx" in said.partition(": ")[2]
    assert "the harness itself failed" not in said


@pytest.mark.parametrize("text", ['{"format": 2, "spreads": []}', '{"format": 2, "spreads": [{}], "runs": []}', "[" * 100_000])
def test_what_it_is_held_against_and_beside_is_read_before_anything_runs(
    place: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "report.json").write_text(text)
    assert main(arguments(place, "--against", str(place / "report.json"))) == 2
    assert "is no report" in capsys.readouterr().err
    (place / "nights.jsonl").mkdir()
    assert main(arguments(place, "--history", str(place))) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert not (place / "out/plan.json").exists()


def test_paths_among_the_options_are_from_where_its_user_is(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "page.md").write_text("# A page\n")
    (place / "scenarios/one.py").write_text("def test_one(artifacts, page): assert page.name == 'page.md'\n")
    assert main(arguments(place, "--", "--page", "page.md")) == 0


def test_canaries_have_the_options_that_say_what_is_tested(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v")
    (place / "a b.tar").touch()
    options = ["-n", "auto", "--container", "a b.tar", "--container=c", "--accelerator", "tcg", "-k", "x"]
    wish = Wish(None, place / "out", "presubmit", options=options)
    told = _environment(wish, Step("canaries", canaries=["a"]))["PYTEST_ADDOPTS"]
    assert shlex.split(told) == ["-v", f"--container={place / 'a b.tar'}", "--container=c", "--accelerator=tcg"]
    assert _environment(wish, Step("plain"))["PYTEST_ADDOPTS"] == "-v"


def test_a_step_may_take_what_that_very_step_took(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place)) == 0
    report = place / "out/report/report.json"
    told = json.loads(report.read_text())
    for run in told["runs"]:
        run["seconds"] = {"plain": 60.0, "other": 240.0}[run["step"]]
    report.write_text(json.dumps(told))
    again = ["--against", str(report), "--out", str(place / "again")]
    assert main([*arguments(place), *again, "--budget", "2"]) == 2
    said = capsys.readouterr().out
    assert "1/2 plain: begins, about 5 min left" in said
    assert "the budget of 2 minutes left out: other" in said


def test_runs_of_something_else_do_not_count(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place)) == 0
    (place / "out/plan.json").unlink()
    for more in ((), ("--resume",)):
        assert main(arguments(place, *more)) == 2
        assert "holds other runs, which would count" in capsys.readouterr().err


def test_another_matrix_of_the_same_names_is_another_qualification(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(place)) == 0
    (place / "m.yaml").write_text(_MACHINES.replace("e1000e", "e1000"))
    assert main(arguments(place, "--resume")) == 2
    assert "holds another qualification (other words)" in capsys.readouterr().err


def test_a_folder_in_which_one_runs_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with task.alone_in(place / "out"):
        assert main(arguments(place)) == 2
    assert "another qualification runs in" in capsys.readouterr().err


@pytest.mark.parametrize("tests", ["", "def test_one(): pass\n"], ids=["no test", "none of a node's"])
def test_a_folder_without_tests_of_a_node_is_refused_and_leaves_the_folder_free(
    place: Path, tests: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "scenarios/one.py").write_text(tests)
    assert main(arguments(place)) == 2
    said = capsys.readouterr().err
    assert f"pytest finds no test in {place / 'scenarios'} that asks for a node: name a folder of scenarios" in said
    assert not list((place / "out/runs").glob("other*"))
    (place / "scenarios/one.py").write_text("def test_one(artifacts): pass\n")
    assert main(arguments(place)) == 0


def test_a_budget_ends_what_runs_longer(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "scenarios/one.py").write_text(
        "import time\ndef test_one(artifacts): pass\ndef test_two(artifacts): time.sleep(600)\n"
    )
    real = time.monotonic

    def an_hour_later_in_the_second_test() -> float:
        return real() + 3600 * any('"Started"' in line and "test_two" in line for line in _journal(place))

    monkeypatch.setattr("harness.qualify.time", SimpleNamespace(monotonic=an_hour_later_in_the_second_test))
    assert main(arguments(place, "--budget", "30")) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("could not tell: plain: it was not through when the budget of 30 minutes ended")
    assert "left out: other" in last
    assert [test.rpartition("::")[2] for test in content_of(place)["runs"][0]["undone"]] == ["test_two"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ended_from_outside_it_leaves_a_report_and_is_gone_on_with(
    place: Path, how: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "scenarios/one.py").write_text(
        "import time\nfrom pathlib import Path\ndef test_one(artifacts): pass\n"
        "def test_two(artifacts):\n    while not (Path(__file__).parent / 'go').exists(): time.sleep(0.1)\n"
    )
    # As a job in the background has it.
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    argv = [*ignoring, sys.executable, "-m", "harness", *arguments(place)]
    running = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(_ROOT)})
    deadline = time.monotonic() + 60
    while not any('"Started"' in line and "test_two" in line for line in _journal(place)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(how)
    said = running.communicate(timeout=60)[0]
    assert (running.returncode, "could not tell: it was interrupted" in said) == (2, True)
    report = content_of(place)
    assert [test.rpartition("::")[2] for test in report["runs"][0]["undone"]] == ["test_two"]
    assert report["missing"] == ["the run of the machine 'plain'", "the run of the machine 'other'"]
    assert main(arguments(place)) == 2
    assert "--resume" in capsys.readouterr().err
    (place / "scenarios/go").touch()
    scenario = place / "scenarios/one.py"
    scenario.write_text(scenario.read_text().replace("test_one", "test_new"))
    assert main(arguments(place, "--resume")) == 0
    told = capsys.readouterr().out
    assert ("1/2 plain: one.py::test_new passed" in told, "test_one" in told) == (True, False), (
        "the earlier run is told of again"
    )
    assert main(arguments(place, "--resume")) == 0
    assert "plain: done before" in capsys.readouterr().out


def test_killed_it_is_gone_on_with_when_its_run_has_ended(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "scenarios/one.py").write_text(
        "import time\nfrom pathlib import Path\ndef test_one(artifacts): pass\n"
        "def test_two(artifacts):\n    try:\n"
        "        while not (Path(__file__).parent / 'go').exists(): time.sleep(0.1)\n"
        "    finally:\n        time.sleep(5)\n"
    )
    argv = [sys.executable, "-m", "harness", *arguments(place)]
    running = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(_ROOT)})
    deadline = time.monotonic() + 60
    while not any('"Started"' in line and "test_two" in line for line in _journal(place)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.kill()
    running.wait()
    (place / "scenarios/go").touch()
    assert main(arguments(place, "--resume")) == 0
    assert [run["status"] for run in content_of(place)["runs"]] == [0, 0]
    assert not list((place / "out/runs").glob("plain-2"))
    assert main(arguments(place, "--resume")) == 0
    assert "plain: done before" in capsys.readouterr().out


def test_another_qualifications_folder_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(place))
    assert main(arguments(place, "--resume", "--shard", "1/2")) == 2
    assert "another qualification (other shard)" in capsys.readouterr().err


def test_a_torn_plan_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out/plan.json").write_text('{"tier": ')
    assert main(arguments(place, "--resume")) == 2
    assert f"{place / 'out/plan.json'} is torn: name another folder" in capsys.readouterr().err


def test_two_shards_put_together_are_one_run(place: Path) -> None:
    (place / "scenarios/one.py").write_text("".join(f"def test_{n}(artifacts): pass\n" for n in range(6)))
    assert main(arguments(place)) == 0
    (place / "all").mkdir()
    for number in (1, 2):
        out = str(place / f"all/out{number}")
        assert main([*arguments(place, "--shard", f"{number}/2"), "--out", out]) == 2
    lone = str(place / "all/out1")
    assert main(["report", lone, lone, "--out", str(place / "half")]) == 2
    assert "shard 2/2" in str(content_of(place, "half")["missing"])
    (place / "out/canaries").rename(place / "all/canaries")
    assert main(["report", str(place / "all"), "--out", str(place / "both")]) == 0
    one, both = content_of(place), content_of(place, "both")
    for part in ("answer", "canaries", "machines", "missing"):
        assert both[part] == one[part]
    assert _verdicts(both) == _verdicts(one)
    assert len(_verdicts(one)) == 12


def test_a_part_without_a_test_is_not_missing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "all").mkdir()
    for number in (1, 2, 3):
        assert main([*arguments(place, "--shard", f"{number}/3"), "--out", str(place / f"all/out{number}")]) == 2
    (place / "out/canaries").rename(place / "all/canaries")
    capsys.readouterr()
    assert main(["report", str(place / "all"), "--out", str(place / "both")]) == 0, capsys.readouterr().out
    both = content_of(place, "both")
    assert (both["missing"], sorted(run["shard"] for run in both["runs"])) == ([], sorted(["1/3", "2/3", "3/3"] * 2))


def test_shards_of_a_damaged_image_give_the_answer_of_one_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "kios.img").touch()
    (place / "all").mkdir()
    image = ("--kios-image", str(place / "kios.img"))
    assert main(arguments(place, *image)) == 1
    for number in (1, 2):
        assert main([*arguments(place, *image, "--shard", f"{number}/2"), "--out", str(place / f"all/out{number}")]) == 1
    (place / "out/canaries").rename(place / "all/canaries")
    capsys.readouterr()
    assert main(["report", str(place / "all"), "--out", str(place / "both")]) == 1
    assert "kios.img is an empty file" in capsys.readouterr().out.splitlines()[-1]
    one, both = content_of(place), content_of(place, "both")
    assert (both["answer"], both["missing"], len(both["commands"])) == (one["answer"], [], 2)
    assert main(["history", "add", str(place / "both"), "--to", str(place / "history")]) == 0


def test_a_shard_that_died_before_its_first_test_is_missing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [str(place / f"out{number}") for number in (1, 2)]
    assert main([*arguments(place, "--shard", "1/2"), "--out", parts[0]]) == 2
    wish = json.loads((place / "out1/plan.json").read_text())
    (place / "out2").mkdir()
    (place / "out2/plan.json").write_text(json.dumps({**wish, "shard": "2/2"}))
    capsys.readouterr()
    assert main(["report", *parts, str(place / "out/canaries"), "--out", str(place / "both")]) == 2
    assert f"{place}/out/canaries has no journal" in capsys.readouterr().err
    assert main(["report", *parts, "--out", str(place / "both")]) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith("could not tell: shard 2/2 is missing")


def _verdicts(report: dict[str, Any]) -> dict[tuple[str, str], tuple[str, int]]:
    return {
        (promise["test"], machine): (cell["verdict"], cell["attempts"])
        for promise in report["promises"]
        for machine, cell in promise["cells"].items()
    }
