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


def wait_for(true: object) -> None:
    assert callable(true)
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
