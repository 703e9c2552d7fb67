"""The Go toolchain: the one on PATH if it is new enough, else the one that the set-up put into the cache."""

import os
import re
import shutil
from pathlib import Path

from images import cache, command
from images.errors import BuildError

_OLDEST = (1, 24, 1)


def find() -> Path:
    """Returns the path of a `go` of version 1.24.1 or newer; raises BuildError if there is none."""
    on_path = shutil.which("go")
    candidates = [Path(on_path)] if on_path else []
    candidates.append(cache.default_root() / "go-1.24/bin/go")
    for candidate in candidates:
        if candidate.exists() and _version_of(candidate) >= _OLDEST:
            return candidate
    raise BuildError("There is no Go 1.24.1 or newer.", "Bring it: setup/debian.sh image")


def version(go: Path) -> str:
    """Returns what `go env GOVERSION` says, as `go1.24.4`."""
    return command.capture([go, "env", "GOVERSION"], env=environment()).strip()


def environment() -> dict[str, str]:
    """What a build sets: no toolchain but the one found, nothing of the checkout's history in the binary."""
    return {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def parallel() -> str:
    """The flag that keeps a build on small machines within their memory."""
    return f"-p={max(1, min(4, os.cpu_count() or 1))}"


def required(go_mod: Path, module: str) -> str:
    """Returns the version of a module that a go.mod pins."""
    match = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise BuildError(f"{go_mod} does not require {module}.", "Restore it from the repository.")
    return match[1]


def _version_of(go: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version(go))[:3])
