"""The programs of a build: they end with it, whatever they started."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
# A program that starts another, as a compiler's driver does, in a build that is asked for by hand.
BUILD = """
import sys
from pathlib import Path
from images import __main__ as images, command
images._build = lambda _: command.run(["sh", "-c", "sleep 986 & echo $! >pid; wait"], log=Path("log"))
sys.argv = ["images", "build"]
sys.exit(images.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_build_started_ends_with_it(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-c", BUILD]
    with subprocess.Popen(words, cwd=tmp_path, env={"PYTHONPATH": str(PROJECT)}, stderr=subprocess.PIPE) as build:
        started = tmp_path / "pid"
        deadline = time.monotonic() + 20
        while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        grandchild = Path("/proc") / started.read_text().strip()
        build.send_signal(number)
        told = build.communicate(timeout=20)[1]
    assert (build.returncode, told) == (130, b"images: interrupted. Build again: what is done stays done.\n")
    while grandchild.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not grandchild.exists()
