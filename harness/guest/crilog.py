"""Container logs on the node's disk, in CRI's format: `TIME STREAM TAG TEXT`, where the tag P means that the line continues.

Only a line feed ends a line of the file; carriage returns, form feeds and line separators are part of what was written.
"""

import re

from harness.errors import NodeFailure

_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) (?P<stream>stdout|stderr) (?P<tag>[PF]) (?P<text>.*)", re.DOTALL
)


def text_of(log: str) -> str:
    """What the container wrote, with its lines joined again; raises NodeFailure for a line that is not in CRI's format.

    What follows the last line feed may be torn, by a power cut or because it is being written; it counts if it is still in the
    format.
    """
    *lines, torn = log.split("\n")
    whole: list[str] = []
    # Pieces of one stream's line may come between those of the other stream's.
    begun: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise NodeFailure(f"line {number} of the log is not in CRI's format: {line!r:.120}")
        begun.setdefault(match["stream"], []).append(match["text"])
        if match["tag"] == "F":
            whole += [*begun.pop(match["stream"]), "\n"]
    if rest := _LINE.fullmatch(torn):
        begun.setdefault(rest["stream"], []).append(rest["text"])
    return "".join([*whole, *(piece for pieces in begun.values() for piece in pieces)])
