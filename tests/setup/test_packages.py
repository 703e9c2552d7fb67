"""What the set-up installs is what the harness runs."""

import re
import subprocess
from pathlib import Path

from harness import doctor, tools

_ROOT = Path(__file__).parents[2]
# Every Debian has them, and whoever has a checkout has git, which says its commit.
_ESSENTIAL = {"cat", "cp", "echo", "false", "git", "sh", "sleep", "true", "yes"}
_OF_TESTS = {"mdel": "mtools", "mformat": "mtools", "mmd": "mtools", "tune2fs": "e2fsprogs"}


def installed(name: str) -> set[str]:
    """One of the lists of packages in setup/debian.sh, with the QEMU that goes with it."""
    lists = re.search(r"^PYTHON=.*?^QEMU_PACKAGES=.*?$", (_ROOT / "setup/debian.sh").read_text(), re.MULTILINE | re.DOTALL)
    assert lists
    printed = f'{lists[0]}\nprintf "%s\\n" "${{{name}[@]}}" "${{QEMU_PACKAGES[@]}}"'
    return set(subprocess.run(["bash", "-c", printed], capture_output=True, text=True, check=True).stdout.split())


def programs(folder: str) -> set[str]:
    texts = (file.read_text() for file in (_ROOT / folder).rglob("*.py"))
    return {name for text in texts for name in re.findall(r'tools\.(?:run\(|head\(\w+,)\s*"([\w-]+)"', text)} - _ESSENTIAL


def test_a_host_that_is_set_up_has_every_program_that_runs_there() -> None:
    assert {"mcopy", "mdir", "debugfs", "qemu-img"} <= programs("harness")
    assert {tools.package(name) for name in programs("harness")} <= installed("RUN")
    tested = programs("harness") | programs("tests")
    assert {_OF_TESTS.get(name) or tools.package(name) for name in tested} <= installed("TEST")


def test_the_doctor_looks_at_each_package_of_them() -> None:
    looked_at = {tools.package(name) for name in doctor._TOOLS}
    assert {tools.package(name) for name in programs("harness")} <= looked_at
