"""GNU parted, static, from Debian's source with the question about a partition in use taken out, as in kiOS's image."""

import os
import shutil
from pathlib import Path

from images import command, debian
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
_OPTIONS = (
    "--disable-shared",
    "--disable-device-mapper",
    "--disable-nls",
    "--disable-dependency-tracking",
    "--without-readline",
)


def part(cache: Cache) -> Part:
    """`parted`, static."""
    version, archive = debian.upstream_source("parted", cache)

    def make(place: Path) -> None:
        log, tree = cache.logs / "parted.log", place / "tree"
        tree.mkdir()
        # Upstream's own files: Debian's changes to them need autotools, and none is about Linux.
        command.run(["tar", "-x", "--strip-components=1", "-C", tree, "-f", archive], log=log)
        command.run(["patch", "-p1", "-d", tree, "-i", _HERE / "resize-in-use.patch"], log=log)
        env = {"CFLAGS": "-Os -w", "LDFLAGS": "-static"}
        command.run(["./configure", "-q", *_OPTIONS], cwd=tree, log=log, env=env)
        jobs = f"-j{os.cpu_count()}"
        command.run(["make", "-s", jobs, "-C", "lib"], cwd=tree, log=log)
        command.run(["make", "-s", jobs, "-C", "libparted"], cwd=tree, log=log)
        command.run(["make", "-s", jobs, "-C", "parted", "version.h"], cwd=tree, log=log)
        command.run(["make", "-s", jobs, "-C", "parted", "parted", "LDFLAGS=-all-static"], cwd=tree, log=log)
        command.run(["strip", "-o", place / "parted", tree / "parted/parted"], log=log)
        shutil.rmtree(tree)

    return Part("parted", {"version": version, "recipe": digest_of(_HERE)}, make)
