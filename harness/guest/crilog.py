"""Container logs on the node's disk, in CRI's format: `TIME STREAM TAG TEXT`, where the tag P means that the line goes on."""

import re

from harness.errors import NodeFailure

_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) (?:stdout|stderr) (?P<tag>[PF]) (?P<text>.*)")


def text_of(log: str) -> str:
    """What the container wrote, its lines whole again; raises NodeFailure for what is not in CRI's format."""
    pieces = []
    for number, line in enumerate(log.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise NodeFailure(f"line {number} of the log is not in CRI's format: {line!r:.120}")
        pieces.append(match["text"] + ("\n" if match["tag"] == "F" else ""))
    return "".join(pieces)
