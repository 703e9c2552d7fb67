"""The console's lines with their times, which console.log does not have."""

import json
from pathlib import Path

from harness.verdict.feed import ConsoleLine, Feed

_MOST_LINES = 5000


def keep(feed: Feed, started: float, file: Path) -> None:
    """Writes the last lines as JSON, each with the seconds since the run `started`."""
    heard = feed.since(max(0, feed.position() - _MOST_LINES))
    lines = (each for each in heard if isinstance(each, ConsoleLine))
    told = (json.dumps({"after": round(line.at - started, 3), "text": line.text}) for line in lines)
    file.write_text("".join(f"{line}\n" for line in told))
