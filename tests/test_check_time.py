"""How long `kios-e2e check` takes with the kubelet's own rules: whoever writes a manifest runs it after each change."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab import cache
from harness.manifests import kubelet_rules

PROJECT = Path(__file__).parents[1]
CHECK = [sys.executable, "-m", "harness", "check", str(PROJECT / "scenarios/manifests/node.yaml")]
# What no check can do without: Python, what it needs of others, and a program that is asked.
LEAST = [
    sys.executable,
    "-c",
    "import argparse, dataclasses, hashlib, inspect, json, pathlib, subprocess, urllib.parse, yaml; subprocess.run(['true'])",
]
# 150 ms on a host where the least takes 60: `python -m bench commands` tells the time itself. Slow hosts take twice as long.
MOST = 150 / 60
RUNS = 9


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """What a command takes of the processors. It waits for nothing: on a host that is idle, this is how long it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_check_takes_little_more_than_it_must(tmp_path: Path) -> None:
    if kubelet_rules.find(cache.folder(None)) is None:
        pytest.skip("the kubelet's rules were not built: make check-tool")
    # As at a user's, whose Python keeps what it has compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    first = subprocess.run(CHECK, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "those of kubelet v" in first.stderr
    cpu_seconds(LEAST, environment)
    # In turn, so that what slows the host slows both.
    times = statistics.median(cpu_seconds(CHECK, environment) / cpu_seconds(LEAST, environment) for _ in range(RUNS))
    assert times < MOST, f"a check takes {times:.2f} times what it needs at least, {MOST:.2f} are allowed"
