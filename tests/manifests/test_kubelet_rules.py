"""The kubelet's own rules: its answers led to lines of the file, in plain words; the program where it was built.

`kubelet/` has minimal manifests, each with one fault or oddity; `verdicts.tsv` what is to be said of each (line, severity,
words; `ok` for nothing), `answers.json` what the kubelet's program said of them.
"""

import json
import re
from pathlib import Path

import pytest

from harness.lab import cache
from harness.manifests import kubelet_rules, manifest
from harness.manifests.kubelet_rules import Answer, Fault, KubeletRules, in_words
from harness.manifests.manifest import Reading
from harness.manifests.yaml_reader import parse
from images import kubelet
from images.cache import Cache
from images.errors import BuildError

FOLDER = Path(__file__).with_name("kubelet")
MANIFESTS = sorted(file for file in FOLDER.iterdir() if file.suffix in (".yaml", ".json") and file.name != "answers.json")
VERDICTS = [line.split("\t") for line in (FOLDER / "verdicts.tsv").read_text("utf-8").splitlines()]
ANSWERS = json.loads((FOLDER / "answers.json").read_text("utf-8"))


def recorded(folder: Path) -> KubeletRules:
    """A program that says what the kubelet's own said of these manifests."""
    program = folder / "kubelet-check"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import base64, json, pathlib, sys\n"
        f"folder, answers = pathlib.Path({str(FOLDER)!r}), json.load(open({str(FOLDER / 'answers.json')!r}))\n"
        "known = {(folder / name).read_bytes(): answer for name, answer in answers.items()}\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps(known[base64.b64decode(json.loads(line))]))\n"
    )
    program.chmod(0o755)
    return KubeletRules(program)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = recorded(tmp_path)
    monkeypatch.setattr(kubelet_rules, "at_hand", lambda: program)


@pytest.fixture(scope="session")
def built() -> KubeletRules:
    found = kubelet_rules.find(cache.folder(None))
    if found is None:
        pytest.skip("the kubelet's rules were not built: make check-tool")
    return found


def said(reading: Reading) -> list[list[str]]:
    return [[reading.file.name, str(finding.line), finding.severity.value, finding.words] for finding in reading.findings] or [
        [reading.file.name, "", "ok", ""]
    ]


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_each_manifest_has_its_verdict_with_field_and_line(file: Path) -> None:
    assert said(manifest.read(file)) == [verdict for verdict in VERDICTS if verdict[0] == file.name]


def test_nothing_is_said_in_the_words_of_programmers() -> None:
    words = " ".join(verdict[3] for verdict in VERDICTS)
    assert not re.search(r"unmarshal|struct|regex|int64|v1\.[A-Z]|feature gate|\[\]string|nil\b", words)


def test_the_program_says_what_was_recorded(built: KubeletRules) -> None:
    answers = built.ask([(FOLDER / name).read_bytes() for name in ANSWERS])
    assert answers == [kubelet_rules.answer_of(answer) for answer in ANSWERS.values()]
    assert {answer.kubelet for answer in answers} == {built.version}


def test_the_kubelet_refuses_none_in_which_nothing_is_found(built: KubeletRules) -> None:
    taken = [file for file in MANIFESTS if [file.name, "", "ok", ""] in VERDICTS]
    assert all(answer.takes_it for answer in built.ask([file.read_bytes() for file in taken]))


_POD = """\
apiVersion: v1
kind: Pod
metadata: {name: small}
spec:
  containers:
  - name: main
    image: i
    volumeMounts:
    - {name: a, mountPath: /a}
    - {name: a, mountPath: /b, subPath: ../c}
  hostPID: true
  tolerations:
  - {key: a, value: A b}
  overhead: {a: 1}
"""


@pytest.mark.parametrize(
    ("fault", "line", "words"),
    [
        (
            Fault("spec.containers[0].image", "Invalid value", "i", "must be longer"),
            7,
            r".*\[main\]\.image is i: must be longer",
        ),
        (
            Fault("spec.containers[0].volumeMounts.subPath", "Invalid value", "../c", "must not"),
            10,
            r".*\[a\]\.subPath is \.\./c",
        ),
        (Fault("spec.containers[7].image", "Required value", ""), 5, r"spec\.containers\[7\]\.image is missing: add it"),
        (Fault("spec.volumes", "Required value", "", "as containers ask for them"), 5, "spec.volumes is missing: as"),
        (Fault("spec.HostPID", "Forbidden", "", "when `hostUsers` is false"), 11, "spec.hostPID cannot stand here: when"),
        (
            Fault("spec.tolerations[0].operator", "Invalid value", "A b", "a valid label must"),
            13,
            r"spec\.tolerations\[0\]\.value is 'A b': a valid label must",
        ),
        (Fault("spec.overhead.limits[a]", "Invalid value", "a", "must be"), 14, r"spec\.overhead\.a: must be"),
        (Fault("", "Internal error", None, "something"), 1, ": something"),
    ],
)
def test_a_path_leads_to_its_line_or_to_what_would_hold_it(fault: Fault, line: int, words: str) -> None:
    root = parse(_POD.encode()).root
    assert root is not None
    (finding,) = in_words(Answer("v1", faults=(fault,)), root)
    assert finding.line == line
    assert re.match(words, finding.words)


def test_a_manifest_is_not_told_to_who_wrote_it() -> None:
    root = parse(_POD.encode()).root
    assert root is not None
    (finding,) = in_words(Answer("v1", unreadable="""Object 'Kind' is missing in '{"apiVersion":"v1"}'"""), root)
    assert finding.words == "cannot be read by the kubelet: Object 'Kind' is missing."


@pytest.mark.parametrize("body", ["exit 1", "echo '[]'", "echo nonsense; cat >/dev/null", "echo broken >&2; exit 2", "true"])
def test_a_program_that_gives_no_answer_is_an_error_that_says_so(tmp_path: Path, body: str) -> None:
    program = tmp_path / "kubelet-check"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    root = parse(_POD.encode()).root
    assert root is not None
    for rules in (KubeletRules(program), KubeletRules(tmp_path / "missing")):
        (finding,) = rules.findings(_POD.encode(), root)
        assert "build them anew by make check-tool" in finding.words


def test_images_and_harness_call_the_program_by_one_name(tmp_path: Path) -> None:
    assert kubelet.check_link(Cache(tmp_path)) == kubelet_rules.link(tmp_path)


def test_a_reader_that_changed_ends_the_build() -> None:
    with pytest.raises(BuildError, match="has no 'package config"):
        kubelet.copied("package other\n")


def test_without_an_error_of_ours_the_program_is_asked_and_else_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def findings(_: KubeletRules, data: bytes, __: object) -> list[object]:
        asked.append(data)
        return []

    monkeypatch.setattr(KubeletRules, "findings", findings)
    monkeypatch.setattr(kubelet_rules, "at_hand", lambda: KubeletRules(tmp_path))
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(_POD.partition("    volumeMounts")[0])
    bad.write_text("kind: Nonsense\n")
    manifest.read_all([good, bad])
    assert asked == [good.read_bytes()]
