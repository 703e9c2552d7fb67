"""What is asked of `images` ends with who asks."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.lab import builder

PROJECT = Path(__file__).parents[2]

_BUILD = """
import sys
from pathlib import Path
from harness.errors import HarnessError
from harness.lab import builder

def build(command, *arguments):
    if command == "find":
        raise HarnessError("none is built")
    # As a build does, it starts programs that start others.
    import subprocess
    return subprocess.run([sys.executable, "-c", CHILD, sys.argv[1]]).stdout

CHILD = "import os, sys, subprocess; open(sys.argv[1], 'w').write(str(os.getpid())); subprocess.run(['sleep', '60'])"
builder.ask = build
builder.{asked}(Path("/cache"))
"""


@pytest.mark.parametrize("asked", ["reference_image", "build_kubelet_rules"])
def test_a_build_ends_with_the_run_that_asked_for_it(tmp_path: Path, asked: str) -> None:
    pid = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", _BUILD.replace("{asked}", asked), str(pid)], cwd=PROJECT) as run:
        wait_for(lambda: pid.exists() and pid.read_text() != "")
        run.kill()
    there = Path("/proc", pid.read_text(), "cmdline")
    wait_for(lambda: not there.exists() or not there.read_bytes())


def test_what_images_says_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert builder.ask("cache") == str(tmp_path / "kios-e2e")
    with pytest.raises(HarnessError, match=r"(?s)`python -m images boil` failed: .*invalid choice"):
        builder.ask("boil")


@pytest.mark.parametrize("command", ["build", "find"])
def test_one_that_was_killed_is_told_so(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        HarnessError, match=rf"`python -m images {command}` was killed by signal 9, .*memory left: without a word"
    ):
        builder.ask(command)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"kernel": 6}'])
def test_a_reference_image_that_is_not_whole_is_to_be_built_again(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(HarnessError, match=f"The reference image {tmp_path} is damaged .*: remove this folder"):
        builder.contents_of(tmp_path)


def wait_for(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
