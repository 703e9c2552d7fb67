"""The page on writing scenarios is true: its examples, run as they are written (docs/writing-scenarios.md)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab.maker import NewNode

MANIFESTS = Path(__file__).parent / "manifests"
PAGE = Path(__file__).parent.parent / "docs/writing-scenarios.md"


def test_examples_hold_one_after_the_other(ready_node: NewNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example of a question, a wait or a change holds on a node; if not, an author's first try fails by our words."""
    shutil.copy(MANIFESTS / "farewell.yaml", tmp_path / "my pod.yaml")
    monkeypatch.chdir(tmp_path)
    node = ready_node(pods=[MANIFESTS / "node.yaml"])
    for example in re.findall(r"^```python (?:node|machine)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(example, PAGE, "exec"), {"node": node})


def test_scenarios_of_the_page_pass(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The page's whole scenarios pass from an author's own folder; if not, what they copy from it fails."""
    shutil.copy(MANIFESTS / "node.yaml", tmp_path)
    [scenarios] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "test_mine.py").write_text(scenarios)
    handed = {name: pytestconfig.getoption(f"kios_{name}") for name in ("image", "efi", "initrd", "modules")}
    options = [f"--kios-{name}={path.absolute()}" for name, path in handed.items() if path]
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parent.parent)}
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "harness.plugin", "-p", "no:cacheprovider", *options]
    done = subprocess.run(pytest_here, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
