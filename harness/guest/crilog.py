"""Container logs on the node's disk, in CRI's format: `TIME STREAM TAG TEXT`, where the tag P means that the line goes on.

Only a line feed ends a line of the file: a carriage return, a form feed or a line separator is what the container wrote.
"""

import re

from harness.errors import NodeFailure

_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) (?P<stream>stdout|stderr) (?P<tag>[PF]) (?P<text>.*)", re.DOTALL
)


def text_of(log: str) -> str:
    """What the container wrote, its lines whole again; raises NodeFailure for what is not in CRI's format.

    What stands behind the last line feed is torn, by a power cut or a reader in the middle of a write: of it, only what is
    still in the format counts.
    """
    *lines, torn = log.split("\n")
    whole: list[str] = []
    # Pieces of a line on one stream may stand between those of the other's.
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
