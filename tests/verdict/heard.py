"""Feeds of what was heard, and the shortest waits on them."""

from collections.abc import Callable

from harness.verdict.feed import ConsoleLine, Feed, Happening
from harness.verdict.judge import Patience

PANIC = "[    1.230000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
NOW = Patience(within=0, silence=10)
LONG = Patience(within=30, silence=30)


def fed(*happenings: Happening) -> Feed:
    feed = Feed()
    feed.publish_all(happenings)
    return feed


def never(_: Happening) -> bool:
    return False


def says(text: str) -> Callable[[Happening], bool]:
    return lambda happening: isinstance(happening, ConsoleLine) and text in happening.text
