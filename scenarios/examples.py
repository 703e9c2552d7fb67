"""The page on writing scenarios is true: its examples run as they are written (docs/writing-scenarios.md)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab.brought import Brought
from harness.lab.generation import THE_REFERENCE
from harness.lab.maker import NewNode

MANIFESTS = Path(__file__).parent / "manifests"
PAGE = Path(__file__).parent.parent / "docs/writing-scenarios.md"
# The generation that an example is for, if it is not for all, and its code.
ON_A_NODE = re.compile(r"^```python (?:node|machine)(?: (\w+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_examples_hold_one_after_the_other(
    ready_node: NewNode, brought: Brought | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example of a question, a wait or a change works on a node; if not, an author who follows the page fails at once."""
    shutil.copy(MANIFESTS / "farewell.yaml", tmp_path / "my pod.yaml")
    monkeypatch.chdir(tmp_path)
    node = ready_node(pods=[MANIFESTS / "node.yaml"])
    generation = (brought.belief if brought else THE_REFERENCE).generation
    for example in [code for name, code in ON_A_NODE.findall(PAGE.read_text()) if name in ("", generation)]:
        exec(compile(example, PAGE, "exec"), {"node": node})


def test_scenarios_of_the_page_pass(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The page's complete scenarios pass in an author's own folder; if not, copies of them fail."""
    shutil.copy(MANIFESTS / "node.yaml", tmp_path)
    [scenarios] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "test_mine.py").write_text(scenarios)
    handed = {name: pytestconfig.getoption(f"kios_{name}") for name in ("image", "efi", "initrd", "modules")}
    options = [f"--kios-{name}={path.absolute()}" for name, path in handed.items() if path]
    environment = {**os.environ, "PYTHONPATH": str(PAGE.parent.parent)}
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "harness.plugin", "-p", "no:cacheprovider", *options]
    done = subprocess.run(pytest_here, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
