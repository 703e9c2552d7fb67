"""The command line: what it prints, and with which exit status."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main

PROJECT = Path(__file__).parents[1]
_POD = """\
apiVersion: v1
kind: Pod
metadata: {name: small}
spec:
  hostNetwork: true
  containers:
  - {name: main, image: i}
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_says_of_good_manifests_that_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(PROJECT / "scenarios/manifests/node.yaml"), str(PROJECT / "harness/manifests/console.yaml")]
    assert main(["check", *files]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: ok" for file in files]


def test_check_says_all_that_is_wrong_with_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.yaml").write_text(_POD)
    Path("bad.yaml").write_text(_POD.replace("name: small", "nam: small, name: Small").replace("image: i", "images: i"))
    assert main(["check", "bad.yaml", "good.yaml", "missing.yaml"]) == 1
    said = capsys.readouterr()
    assert [line.split(" ", 1)[0] for line in said.out.splitlines()] == [
        "bad.yaml:3:",
        "bad.yaml:3:",
        "bad.yaml:7:",
        "bad.yaml:7:",
        "good.yaml:",
        "missing.yaml:1:",
    ]
    assert "good.yaml: ok" in said.out
    assert said.err == ""


def test_check_compares_the_files_of_a_node(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(_POD)
    Path("b.yaml").write_text(_POD)
    assert main(["check", "a.yaml", "b.yaml"]) == 1
    assert capsys.readouterr().out.startswith("a.yaml: ok\nb.yaml:3: is the pod default/small, as is a.yaml:3")


def test_a_hint_leaves_a_file_ok(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pod.yaml").write_text(_POD.replace("  hostNetwork: true\n", ""))
    assert main(["check", "pod.yaml"]) == 0
    hint, verdict = capsys.readouterr().out.splitlines()
    assert hint.startswith("pod.yaml:4: hint: spec.hostNetwork is not true")
    assert verdict == "pod.yaml: ok"


def test_a_name_that_the_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, "ascii"))
    assert main(["check", "gr\xf6\udcff"]) == 1
    sys.stdout.flush()
    assert terminal.getvalue() == b"gr\\xf6\\udcff:1: cannot be read: No such file or directory.\n"


@pytest.mark.parametrize("arguments", [[], ["check"], ["boil", "pod.yaml"], ["check", "--boil", "pod.yaml"]])
def test_a_wrong_call_is_told_how_to_call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: kios-e2e")


def test_it_is_a_program() -> None:
    Path("pod.yaml").write_text(_POD.replace("Pod", "Deployment"))
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "check", "pod.yaml"],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("pod.yaml:2: is a Deployment")
