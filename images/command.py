"""External programs: run with their output in a log, so that a failure can show its last words."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from images.errors import BuildError

_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_LAST_LINES = 25


def installed(program: str) -> bool:
    """Says whether a program is there, in a system folder too that is not on an ordinary user's PATH."""
    return shutil.which(program, path=_SYSTEM_PATH) is not None


def run(
    argv: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> None:
    """Runs a program to its end with its output in `log`; raises BuildError with the log's end if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": _SYSTEM_PATH, "LC_ALL": "C", **(env or {})}
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, argv))}\n".encode())
        output.flush()
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except FileNotFoundError as missing:
            raise BuildError(f"{argv[0]} is not installed.", "Install it: make image names all packages.") from missing
    try:
        process.communicate(stdin)
    except BaseException:
        # A compiler's driver leaves what it started behind: a build that was ended would go on for minutes.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise BuildError(f"{Path(argv[0]).name} failed with status {process.returncode}:\n{_end_of(log)}", f"Whole log: {log}")


def capture(argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs a program and returns what it writes to stdout; raises BuildError with its stderr if it fails."""
    environment = {**os.environ, "PATH": _SYSTEM_PATH, "LC_ALL": "C", **(env or {})}
    try:
        process = subprocess.run(
            [str(word) for word in argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as missing:
        raise BuildError(f"{argv[0]} is not installed.", "Install it: make image names all packages.") from missing
    if process.returncode:
        words = process.stderr.strip() or process.stdout.strip()
        raise BuildError(f"{' '.join(map(str, argv[:3]))} failed: {words[-1500:]}", "Mend what it names and build again.")
    return process.stdout


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(f"  | {line}" for line in lines)
