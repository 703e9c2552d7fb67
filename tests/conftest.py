"""What every test here needs."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell has its jobs in the background ignore SIGINT, and all their children after them; some tests send it to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of 4 MiB of its own; skips where this user may mount none."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
