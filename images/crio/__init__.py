"""CRI-O as a Go module, with its pinns."""

from pathlib import Path

from images import command, go
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
_MODULE = "github.com/cri-o/cri-o"
# As kiOS builds it; libsqlite3 takes Debian's library instead of compiling a copy.
_TAGS = "containers_image_ostree_stub containers_image_openpgp exclude_graphdriver_btrfs btrfs_noversion seccomp libsqlite3"


def part(cache: Cache) -> Part:
    """`crio`, linked with Debian's libseccomp and SQLite, and `pinns`, static."""
    compiler = go.find()
    version = go.required(_HERE / "go.mod", _MODULE)

    def make(place: Path) -> None:
        log, env = cache.logs / "crio.log", {**go.environment(), "CGO_ENABLED": "1"}
        build: list[str | Path] = [compiler, "build", "-trimpath", go.parallel(), "-tags", _TAGS, "-ldflags", "-s -w"]
        command.run([*build, "-o", place / "crio", f"{_MODULE}/cmd/crio"], cwd=_HERE, env=env, log=log)
        source = Path(command.capture([compiler, "list", "-m", "-f", "{{.Dir}}", _MODULE], cwd=_HERE, env=env).strip())
        sources = sorted((source / "pinns/src").glob("*.c"))
        command.run(["gcc", "-std=c99", "-Os", "-static", "-s", "-o", place / "pinns", *sources], log=log)

    return Part("crio", {"version": version, "recipe": digest_of(_HERE), "go": go.version(compiler)}, make)
