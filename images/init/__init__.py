"""PID 1, which is built for a generation of kiOS: they differ in where a node's state lives."""

from collections.abc import Mapping
from pathlib import Path

from images import command
from images.cache import Cache, Part, digest_of

SOURCES = Path(__file__).parent
_STATE: Mapping[str, str] = {"a": "data.c", "b": "memory.c"}
_SHARED = ("init.c", "log.c", "mounts.c")


def part(cache: Cache, generation: str) -> Part:
    """`init`, static; `generation` is `a`, which mounts a data partition, or `b`, which lives in memory."""
    sources = [SOURCES / name for name in (*_SHARED, _STATE[generation])]

    def make(place: Path) -> None:
        flags = ["-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror"]
        command.run(["gcc", *flags, "-o", place / "init", *sources], log=cache.logs / "init.log")

    inputs = {"sources": digest_of(SOURCES / "init.h", *sources), "recipe": digest_of(Path(__file__))}
    return Part(f"init-{generation}", inputs, make)
