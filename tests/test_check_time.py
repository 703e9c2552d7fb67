"""How long `kios-e2e check` takes with the kubelet's own rules: whoever writes a manifest runs it after each change."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab import cache
from harness.manifests import kubelet_rules

PROJECT = Path(__file__).parents[1]
MANIFEST = PROJECT / "scenarios/manifests/node.yaml"
MOST_SECONDS = 0.150
# A CPU that others use too is slower: the best run is the one that had most of it.
RUNS = 20


def cpu_seconds() -> float:
    """What the processes took that this one has started and waited for, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_check_takes_under_150_ms(tmp_path: Path) -> None:
    if kubelet_rules.find(cache.folder(None)) is None:
        pytest.skip("the kubelet's rules were not built: make check-tool")
    # As at a user's, whose Python keeps what it has compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    command = [sys.executable, "-m", "harness", "check", str(MANIFEST)]
    took: list[float] = []
    for _ in range(RUNS):
        before = cpu_seconds()
        # It waits for nothing: on a host that is idle, this is how long it takes.
        done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True)
        took.append(cpu_seconds() - before)
        assert "those of kubelet v" in done.stderr
        if took[-1] < MOST_SECONDS:
            return
    pytest.fail(f"the best of {RUNS} runs took {min(took) * 1000:.0f} ms, {MOST_SECONDS * 1000:.0f} are allowed")
