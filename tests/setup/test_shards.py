"""The examples of a run on many machines: the shard that each computes is one of the whole, and each is there once."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from harness.cli import _parser

_SHARDS = Path(__file__).parents[2] / "docs/shards"


def _shards_of(command: str, environments: list[dict[str, str]], tmp_path: Path) -> list[str]:
    """Runs a job's command with a command in the place of the harness that writes its arguments down and ends with 2."""
    fake = tmp_path / ".venv/bin/kios-e2e"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\necho "$@" >> said\nexit 2\n')
    fake.chmod(0o755)
    for environment in environments:
        subprocess.run(["bash", "-c", command], cwd=tmp_path, env={**os.environ, **environment}, check=True)
    said = [line.split() for line in (tmp_path / "said").read_text().splitlines()]
    return [_parser().parse_args(words).shard for words in said]


def test_the_indexed_job_runs_each_shard_once(tmp_path: Path) -> None:
    job: dict[str, Any] = yaml.safe_load((_SHARDS / "job.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    indices = [{"JOB_COMPLETION_INDEX": str(index)} for index in range(job["spec"]["completions"])]
    assert _shards_of(container["command"][2], indices, tmp_path) == ["1/4", "2/4", "3/4", "4/4"]
    # One that fails would otherwise end those that run (batch/v1, JobSpec).
    assert "backoffLimit" not in job["spec"]
    assert job["spec"]["backoffLimitPerIndex"] == 0


def test_the_ci_matrix_runs_each_shard_once(tmp_path: Path) -> None:
    jobs: dict[str, Any] = yaml.safe_load((_SHARDS / "ci-matrix.yaml").read_text())["jobs"]
    [command] = [step["run"] for step in jobs["scenarios"]["steps"] if "qualify" in step.get("run", "")]
    shards = [{"SHARD": str(shard)} for shard in jobs["scenarios"]["strategy"]["matrix"]["shard"]]
    assert _shards_of(command, shards, tmp_path) == ["1/4", "2/4", "3/4", "4/4"]
