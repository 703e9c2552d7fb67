"""The QEMU program: found, and checked to be one that nodes can be tested on."""

import re
import shutil
import subprocess
from pathlib import Path

from harness.errors import HarnessError

# 7.2 crashes guest kernels, as measured; 10.0 never did.
_OLDEST = 10


def find(program: str) -> Path:
    """Returns the path of a QEMU for x86-64; raises HarnessError if it is missing, does not run or is older than 10."""
    found = shutil.which(program)
    if found is None:
        raise HarnessError(f"There is no {program}. Bring QEMU: setup/debian.sh run, or name another with --qemu.")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"QEMU emulator version (\d+)\.", said.stdout)
    if match is None:
        raise HarnessError(
            f"{found} is no QEMU: asked for its version, it says {(said.stdout or said.stderr).strip()[:200]!r}."
        )
    if int(match[1]) < _OLDEST:
        raise HarnessError(
            f"{said.stdout.splitlines()[0]} is too old: below {_OLDEST}, QEMU crashes guest kernels. "
            "Bring a newer one: setup/debian.sh run"
        )
    return Path(found)
