"""The command line: what it prints, and with which exit status."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import by_hand, doctor, enter
from harness.cli import main
from harness.doctor import Condition
from harness.enter import Visit
from harness.errors import HarnessError, NodeFailure
from harness.lab.wanted import Wanted
from harness.manifests import kubelet_rules

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
    # Neither the rules of this host's kubelet nor its Go.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(kubelet_rules, "_CACHE", [])


def test_check_says_of_good_manifests_that_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(PROJECT / "scenarios/manifests/node.yaml"), str(PROJECT / "harness/lab/kios-e2e.yaml")]
    assert main(["check", *files]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: ok" for file in files]


@pytest.mark.parametrize(
    "words",
    [["boot", "--image-cache="], ["check", ""], ["doctor", "--qemu="], ["qualify", "--out="], ["report", "a", "--out", ""]],
    ids=" ".join,
)
def test_nothing_is_no_name(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "it is empty: name something, or leave the option out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
    assert said.err == "kios-e2e: the kubelet's own rules were not asked: `make check-tool` builds them\n"


@pytest.mark.parametrize(("size", "status"), [("1G", 1), ("2G", 0)])
def test_check_says_whether_a_node_has_room_for_what_pods_request(
    capsys: pytest.CaptureFixture[str], size: str, status: int
) -> None:
    asking = _POD.replace("image: i", 'image: i, resources: {requests: {memory: "600Mi"}}')
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text(asking.replace("name: small", f"name: {name}"))
    assert main(["check", "one.yaml", "two.yaml", "--memory", size]) == status
    said = capsys.readouterr().out
    assert ("the pods request 1200 MiB of memory (one 600 MiB, two 600 MiB), the node has 1024 MiB" in said) == bool(status)
    assert ("one.yaml: ok" in said) == (not status)


def test_check_says_whether_a_node_has_the_cpus_that_pods_request(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.yaml").write_text(_POD.replace("image: i", 'image: i, resources: {requests: {cpu: "1500m"}}'))
    assert main(["check", "one.yaml", "--cpus", "2"]) == 0
    assert main(["check", "one.yaml", "--cpus", "1"]) == 1
    assert "one.yaml: the pods request 1.5 CPUs (small 1.5), the node has 1: the kubelet never" in capsys.readouterr().out


def test_check_reads_what_comes_on_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(_POD.replace("v1", "v2").encode())))
    assert main(["check", "-"]) == 1
    assert capsys.readouterr().out.startswith("-:1: apiVersion is v2")


def test_check_builds_the_kubelets_rules_once_where_go_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("shutil.which", lambda _: "/bin/go")
    monkeypatch.setattr("harness.lab.builder.ask", lambda *words: asked.append(words))
    Path("pod.yaml").write_text(_POD)
    assert main(["check", "--no-build", "pod.yaml"]) == 0
    assert asked == []
    assert main(["check", "pod.yaml"]) == 0
    assert asked == [("check-tool", "--cache", tmp_path / "cache/kios-e2e")]
    assert "which takes a minute or two, once" in capsys.readouterr().err


def test_check_needs_no_home(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_CACHE_HOME")
    Path("pod.yaml").write_text(_POD)
    assert main(["check", "pod.yaml"]) == 0
    said = capsys.readouterr()
    assert said.out == "pod.yaml: ok\n"
    assert said.err.startswith("kios-e2e: There is no home folder for the cache: name one with --image-cache DIR")


def test_check_looks_into_no_closed_cache(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> bool:
        raise PermissionError("somebody else's")

    monkeypatch.setattr(Path, "exists", closed)
    Path("pod.yaml").write_text(_POD)
    assert main(["check", "pod.yaml"]) == 0
    assert capsys.readouterr().out == "pod.yaml: ok\n"


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
        [sys.executable, "-m", "harness", "check", "--no-build", "--image-cache", "cache", "pod.yaml"],
        env={"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "the kubelet's own rules were not asked" in ended.stderr
    assert ended.stdout.startswith("pod.yaml:2: is a Deployment")


@pytest.mark.parametrize(
    ("closed", "words"),
    [("- <&-", "-:1: is empty; a static pod begins with apiVersion: v1, kind: Pod.\n"), ("pod.yaml 2>&-", "pod.yaml: ok\n")],
    ids=["stdin", "stderr"],
)
def test_what_its_shell_has_closed_is_empty(closed: str, words: str) -> None:
    Path("pod.yaml").write_text(_POD)
    check = f"'{sys.executable}' -m harness check --no-build --image-cache cache {closed}"
    ended = subprocess.run(["bash", "-c", check], env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, check=False)
    assert (ended.stdout, "Traceback" in ended.stderr) == (words, False)


def _failing(error: BaseException) -> Callable[..., int]:
    def boot(*_: object) -> int:
        raise error

    return boot


@pytest.mark.parametrize(
    "failed", [HarnessError("There is no QEMU."), NodeFailure("the guest died: panic")], ids=["the harness", "the node"]
)
def test_what_a_command_cannot_do_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failed: Exception
) -> None:
    monkeypatch.setattr(by_hand, "boot", _failing(failed))
    assert main(["boot"]) == 1
    assert capsys.readouterr() == ("", f"kios-e2e: {failed}\n")


def test_a_command_is_broken_off_as_shells_know_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(by_hand, "boot", _failing(KeyboardInterrupt()))
    assert main(["boot"]) == 130
    assert capsys.readouterr() == ("", "")


def test_an_error_in_the_harness_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "boot", _failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["boot"])


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        pytest.param([], (Wanted(), []), id="nothing"),
        pytest.param(
            ["--qemu", "q", "--image-cache", "c", "--kios-image", "i", "--manifest", "a", "--manifest", "b"],
            (Wanted(qemu="q", cache=Path("c"), image=Path("i")), [Path("a"), Path("b")]),
            id="an image",
        ),
        pytest.param(
            ["--kios-efi", "e", "--kios-modules", "m", "--container", "/c", "--memory", "2G", "--cpus", "2"],
            (Wanted(efi=Path("e"), modules=Path("m"), containers=(Path("/c"),), memory="2G", cpus=2), []),
            id="everything else",
        ),
    ],
)
def test_boot_boots_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], meant: tuple[object, ...]
) -> None:
    booted: list[tuple[object, ...]] = []

    def boot(*asked: object) -> int:
        booted.append(asked)
        return 0

    monkeypatch.setattr(by_hand, "boot", boot)
    assert main(["boot", *arguments]) == 0
    assert booted == [meant]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["FAIL"], Visit(Path("FAIL"), Wanted())),
        (["FAIL", "--kios-image", "a", "--network", "open"], Visit(Path("FAIL"), Wanted(image=Path("a"), network="open"))),
        (["FAIL", "--leave-clock", "--at", "init"], Visit(Path("FAIL"), Wanted(), sets_clock=False, at="init")),
    ],
)
def test_enter_enters_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, arguments: list[str], meant: Visit) -> None:
    visits: list[Visit] = []

    def note(visit: Visit) -> int:
        visits.append(visit)
        return 0

    monkeypatch.setattr(enter, "enter", note)
    assert main(["enter", *arguments]) == 0
    assert visits == [meant]


@pytest.mark.parametrize(("cure", "status"), [("", 0), ("make image", 1)], ids=["all is well", "one is lacking"])
def test_doctor_says_every_finding_and_fails_for_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cure: str, status: int
) -> None:
    findings = [Condition("image", "is it built?", cure), Condition("disk", "20 GiB")]
    monkeypatch.setattr(doctor, "examine", lambda *_: iter(findings))
    assert main(["doctor"]) == status
    assert capsys.readouterr().out.splitlines() == [finding.line() for finding in findings]
