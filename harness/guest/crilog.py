"""Container logs on the node's disk, in CRI's format: `TIME STREAM TAG TEXT`, where the tag P means that the line continues.

Only a line feed ends a line of the file; carriage returns, form feeds and line separators are part of what was written. A tag
may have others behind it, after a colon (cri-client, pkg/logs).
"""

import re
from collections.abc import Iterable

from harness.errors import NodeFailure

_LINE = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) "
    rb"(?P<stream>stdout|stderr) (?P<tag>[PF])(?::\S*)? (?P<text>.*)",
    re.DOTALL,
)
# A line that no log has, as each begins with a time.
_BETWEEN = b"\n\x1d\n"


def command(read: str, files: str) -> str:
    """A shell command that prints log files, whose paths may be patterns, by the command `read`; see `runs_in`."""
    return f"(for run in {files}; do {read} \"$run\" && printf '\\n\\035\\n' || exit; done)"


def runs_in(output: bytes) -> list[bytes]:
    """The files that the command printed: one log for each run of a container."""
    return output.split(_BETWEEN)


def text_of(runs: Iterable[bytes]) -> str:
    """What the container wrote, with its lines joined again; raises NodeFailure for a line that is not in CRI's format.

    What follows the last line feed of a run may be torn, by a power cut or because it is being written; it counts if it is
    still in the format.
    """
    runs = list(runs)
    for run in runs:
        for number, line in enumerate(run.split(b"\n")[:-1], start=1):
            if not _LINE.fullmatch(line):
                words = line.decode(errors="replace")
                raise NodeFailure(f"line {number} of the log is not in CRI's format: {words!r:.120}")
    return legible_in(runs)


def legible_in(runs: Iterable[bytes]) -> str:
    """The same without the lines that are not in CRI's format."""
    text = b""
    for run in runs:
        # A run that was cut off has not ended its last line.
        text += b"\n" if text and not text.endswith(b"\n") else b""
        text += _joined(run)
    # Only now: a piece may end in the middle of a character.
    return text.decode(errors="replace")


def _joined(run: bytes) -> bytes:
    *lines, torn = map(_LINE.fullmatch, run.split(b"\n"))
    whole: list[bytes] = []
    # Pieces of one stream's line may come between those of the other stream's.
    begun: dict[bytes, list[bytes]] = {}
    for match in filter(None, lines):
        begun.setdefault(match["stream"], []).append(match["text"])
        if match["tag"] == b"F":
            whole += [*begun.pop(match["stream"]), b"\n"]
    if torn:
        begun.setdefault(torn["stream"], []).append(torn["text"])
    return b"".join([*whole, *(piece for pieces in begun.values() for piece in pieces)])
