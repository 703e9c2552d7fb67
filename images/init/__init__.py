"""PID 1."""

from pathlib import Path

from images import command
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent


def part(cache: Cache) -> Part:
    """`init`, static."""

    def make(place: Path) -> None:
        command.run(
            [
                "gcc",
                "-std=gnu11",
                "-Os",
                "-static",
                "-s",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
                place / "init",
                _HERE / "init.c",
            ],
            log=cache.logs / "init.log",
        )

    return Part("init", {"recipe": digest_of(_HERE)}, make)
