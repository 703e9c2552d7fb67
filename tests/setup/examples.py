"""`make check-examples`: the examples of runs on many machines, held against the rules of what reads them.

Collected only by name: Go compiles what an API server does with a Job, which takes minutes where no kubelet was built before.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from images import go
from images.errors import BuildError

_SHARDS = Path(__file__).parents[2] / "docs/shards"
_RULES = Path(__file__).with_name("examples")
_OFFLINE = ("--offline", "--no-progress", "--color", "never")
_JOB, _WORKFLOW = (_SHARDS / "job.yaml").read_text(), (_SHARDS / "ci-matrix.yaml").read_text()


@pytest.fixture(scope="module")
def go_program() -> Path:
    try:
        return go.find()
    except BuildError as lacking:
        pytest.skip(str(lacking))


@pytest.fixture(scope="module")
def api_server(go_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What says of a Job what an API server would: strictly decoded, its defaults set, as it is about to be created."""
    program = tmp_path_factory.mktemp("go") / "api-server"
    # Go has compiled nearly all of it for the kubelet, whose build has this flag too.
    _go([go_program, "build", "-trimpath", go.parallel(), "-o", program, "."])
    return program


@pytest.fixture(scope="module")
def linter(go_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("go") / "actionlint"
    _go([go_program, "build", go.parallel(), "-o", program, "github.com/rhysd/actionlint/cmd/actionlint"])
    return program


@pytest.fixture(scope="module")
def auditor() -> Path:
    beside = shutil.which("zizmor", path=str(Path(sys.executable).parent)) or shutil.which("zizmor")
    if beside is None:
        pytest.skip("no zizmor: make venv")
    return Path(beside)


def test_an_api_server_takes_the_job(api_server: Path) -> None:
    assert _said([api_server, _SHARDS / "job.yaml"]) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("backoffLimitPer", "backofLimitPer", 'unknown field "spec.backofLimitPerIndex"'),
        ("  completions: 4\n", "", "spec.completions: Required value: when completion mode is Indexed"),
        ("Never", "Always", "spec.template.spec.restartPolicy"),
        ("- name: out\n          mountPath", "- name: other\n          mountPath", 'volumeMounts[0].name: Not found: "other"'),
        ('cpu: "2"', "cpu: two", "quantities must match"),
        ("batch/v1", "batch/v2", 'no kind "Job" is registered for version "batch/v2"'),
    ],
)
def test_an_api_server_refuses_another(api_server: Path, tmp_path: Path, old: str, new: str, why: str) -> None:
    status, said = _said([api_server, _edited(_JOB, old, new, tmp_path / "job.yaml")])
    assert (status, why in said) == (1, True), said


def test_the_linter_of_workflows_finds_nothing(linter: Path) -> None:
    assert _said([linter, "-no-color", _SHARDS / "ci-matrix.yaml"]) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("needs: scenarios", "needs: scenario", '"scenario" which does not exist'),
        ("matrix.shard }}\n    # A", "matrix.part }}\n    # A", 'property "part" is not defined'),
        ("    steps:", "    step:", 'unexpected key "step"'),
    ],
)
def test_the_linter_of_workflows_finds_what_is_wrong(linter: Path, tmp_path: Path, old: str, new: str, why: str) -> None:
    status, said = _said([linter, "-no-color", _edited(_WORKFLOW, old, new, tmp_path / "ci-matrix.yaml")])
    assert (status, why in said) == (1, True), said


def test_the_auditor_of_workflows_finds_nothing(auditor: Path) -> None:
    status, said = _said([auditor, *_OFFLINE, _SHARDS / "ci-matrix.yaml"])
    assert status == 0, said


def test_the_auditor_of_workflows_finds_a_branch_that_may_change(auditor: Path, tmp_path: Path) -> None:
    old = next(line for line in _WORKFLOW.splitlines() if "actions/checkout@" in line)
    status, said = _said([auditor, *_OFFLINE, _edited(_WORKFLOW, old, "    - uses: actions/checkout@v4", tmp_path / "w.yaml")])
    assert (status != 0, "unpinned-uses" in said) == (True, True), said


def test_what_the_page_links_to_is_uploaded_with_it() -> None:
    steps = yaml.safe_load(_WORKFLOW)["jobs"]["report"]["steps"]
    [command] = [step["run"] for step in steps if "kios-e2e report" in step.get("run", "")]
    [upload] = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    words = command.split()
    assert {words[words.index("report") + 1], words[words.index("--out") + 1]} == set(upload.split())


def _edited(text: str, old: str, new: str, file: Path) -> Path:
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def _said(words: list[str | Path]) -> tuple[int, str]:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    return done.returncode, done.stdout


def _go(words: list[str | Path]) -> None:
    environment = {**go.environment(), "CGO_ENABLED": "0"}
    done = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), *words],
        cwd=_RULES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
