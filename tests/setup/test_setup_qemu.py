"""setup/qemu.sh where nothing can be fetched and where QEMU is there already; no network is used."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "setup" / "qemu.sh"


def run(tmp_path: Path, apt: str, **places: str) -> subprocess.CompletedProcess[str]:
    fakes = tmp_path / "fakes"
    write_program(fakes / "apt-get", apt)
    # Nobody's home is known to this host.
    write_program(fakes / "getent", "exit 2")
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"PATH": f"{fakes}:{os.environ['PATH']}", **(places or {"XDG_CACHE_HOME": str(tmp_path)})}
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False)


def write_program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_a_failure_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "exit 100")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert "the system's QEMU is used, and nodes are booted cold" in line
    assert [entry.name for entry in (tmp_path / "kios-e2e").glob("*qemu*")] == []


def test_what_is_there_is_kept_without_asking_apt(tmp_path: Path) -> None:
    for program in ("qemu-system-x86_64", "qemu-img"):
        write_program(tmp_path / "kios-e2e/qemu/bin" / program, "exit 0")
    done = run(tmp_path, f"touch {tmp_path}/asked")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "asked").exists()


def test_a_relative_cache_counts_as_none(tmp_path: Path) -> None:
    for program in ("qemu-system-x86_64", "qemu-img"):
        write_program(tmp_path / ".cache/kios-e2e/qemu/bin" / program, "exit 0")
    done = run(tmp_path, f"touch {tmp_path}/asked", HOME=str(tmp_path), XDG_CACHE_HOME="cache")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_home_it_gives_up_in_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "exit 100", HOME="", XDG_CACHE_HOME="")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
