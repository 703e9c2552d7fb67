"""A matrix that is killed leaves nothing behind: real processes, with a scenario that boots nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
# The matrix on another root, with a scenario of its own.
_MATRIX = """
import sys
from pathlib import Path
from faults import __main__ as faults
from faults.edits import NO_BUTTON
from faults.fault import Fault
faults._ROOT = Path(sys.argv.pop(1))
faults.FAULTS = {"slow": Fault("slow.py::test_slow", NO_BUTTON, "slow")}
sys.exit(faults.main())
"""
_SCENARIO = """
import os, subprocess, time
from pathlib import Path
def test_slow():
    child = subprocess.Popen(["sleep", "600"])
    folder = Path(__file__).parent
    (folder / "new").write_text(f"{os.getpid()} {child.pid}")
    (folder / "new").rename(folder / "pids")
    time.sleep(600)
"""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_its_runs_and_their_folder_end_with_it(how: signal.Signals, tmp_path: Path) -> None:
    scenarios, temporary, results = tmp_path / "scenarios", tmp_path / "tmp", tmp_path / "seen.json"
    scenarios.mkdir()
    temporary.mkdir()
    (scenarios / "slow.py").write_text(_SCENARIO)
    (scenarios / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    # As a job in the background has it.
    ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    running = subprocess.Popen(
        [*ignoring, sys.executable, "-c", _MATRIX, str(tmp_path), "--results", str(results)],
        env={**os.environ, "PYTHONPATH": str(_ROOT), "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((scenarios / "pids").exists)
    started = [int(pid) for pid in (scenarios / "pids").read_text().split()]
    assert any(temporary.iterdir())
    running.send_signal(how)
    assert running.communicate(timeout=60)[1] == ""
    assert running.returncode == -how
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    wait_until(lambda: not any(temporary.iterdir()))
    assert not results.exists()
