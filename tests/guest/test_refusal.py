"""Why the kubelet does not have a pod: the reason out of its log, as klog writes it."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.guest import refusal

POD = "kube-system/odd"
_AT = "E1125 14:02:11.123456     412 file.go:108] "


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            r"""Unable to process watch event" err="can't process config file \"/m/odd.yaml\": [os: Required]""",
            "[os: Required]",
        ),
        (
            r"""Could not process manifest file" err="invalid: [labels: Invalid value: \"two words\"]" path="/m/odd.yaml""",
            'invalid: [labels: Invalid value: "two words"]',
        ),
        (
            r"""Could not process manifest file" err="/m/odd.yaml: couldn't parse as pod(line 3), please check config file""",
            "line 3",
        ),
        (r"""Could not process manifest file" err="a \x00 b" path="/m/odd.yaml""", r"a \x00 b"),
        (r"""Could not process manifest file" err="not ours" path="/m/other.yaml""", None),
        (r"""Could not process manifest file" err="a copy's" path="/m/odd.yaml.bak""", None),
        (r"""Caches are synced" path="/m/odd.yaml""", None),
    ],
)
def test_the_reason_is_told_in_its_own_words(line: str, reason: str | None) -> None:
    log = f'{_AT}"Kubelet version"\n{_AT}"{line}"\n{_AT}"another line"\n'
    assert refusal.reason_in(log, "odd.yaml", POD) == reason


def test_the_last_reason_counts() -> None:
    lines = [f'{_AT}"Could not process manifest file" err="{words}" path="/m/odd.yaml"' for words in ("first", "second")]
    assert refusal.reason_in("\n".join(lines), "odd.yaml", POD) == "second"


def test_a_file_is_asked_for_by_its_name_alone() -> None:
    command = refusal.command("a b.yaml", POD)
    log = "".join(f'path="/m/{name}"\n' for name in ("a b.yaml", "a-b.yaml", "aXb.yaml", "a b.yaml~"))
    assert found_by(command, log) == 'path="/m/a b.yaml"\n'


def found_by(command: str, log: str) -> str:
    select = command[command.rindex("grep") :].removesuffix("; fi")
    return subprocess.run(["sh", "-c", select], input=log, capture_output=True, text=True, timeout=20).stdout


def test_a_pod_that_is_not_admitted_is_told_by_the_log_where_its_status_cannot_be_had() -> None:
    words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    log = "".join(
        f'{_AT}"Pod admission denied" podUID="09cc" pod="kube-system/{pod}" reason="NodeAffinity" message="{words}"\n'
        for pod in ("odd", "other")
    )
    assert refusal.reason_in(log, "odd.yaml", POD) == f"NodeAffinity: {words}"
    assert refusal.reason_in(log, "odd.yaml", "default/odd") is None
    quoted = log.replace("node affinity", r"\"node\" affinity")
    told = refusal.reason_in(quoted, "odd.yaml", POD)
    assert told == "NodeAffinity: " + words.replace("node affinity", '"node" affinity')
    assert found_by(refusal.command("odd.yaml", POD), log) == log.splitlines(keepends=True)[0]


def test_the_mirrors_files_are_looked_at_where_there_are_any(tmp_path: Path) -> None:
    log = tmp_path / "var/log/pods/kube-system_node_uid/kubelet/0.log"
    log.parent.mkdir(parents=True)
    parts = [("P", '"Could not process  manifest file" '), ("F", 'path="/m/odd.yaml"'), ("P", "another"), ("F", " line")]
    log.write_text("".join(f"2026-11-25T23:52:39.4+00:00 stdout {tag} {text}\n" for tag, text in parts))
    command = refusal.command("odd.yaml", POD).replace("/host/", f"{tmp_path}/")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == '"Could not process  manifest file" path="/m/odd.yaml"\n'


def test_where_nobody_mirrors_the_pipe_is_read_and_filled_again(tmp_path: Path) -> None:
    pipe = tmp_path / "var/run/kubelet.log"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    # As the daemon's end: what is written stays in the pipe.
    with os.fdopen(os.open(pipe, os.O_RDWR), "w+b", buffering=0) as daemon:
        daemon.write(b'"Could not process manifest file" path="/m/odd.yaml"\nanother line\n')
        command = refusal.command("odd.yaml", POD).replace("/host/", f"{tmp_path}/")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
        assert done.stdout == '"Could not process manifest file" path="/m/odd.yaml"\n'
        assert daemon.read(4096) == b'"Could not process manifest file" path="/m/odd.yaml"\nanother line\n'
