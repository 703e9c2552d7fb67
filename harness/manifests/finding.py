"""What a check found in a file: where, in words, and how severe it is."""

import enum
import re
from dataclasses import dataclass
from pathlib import Path

from harness import escape

_LONGEST_WORD = 60
_PLAIN_WORD = re.compile(rf"[\w./:-]{{1,{_LONGEST_WORD}}}", re.ASCII)


class Severity(enum.Enum):
    """Whether something cannot work, or works but is hardly what was meant."""

    ERROR = "error"
    HINT = "hint"


@dataclass(frozen=True)
class Finding:
    """One finding: `line` counts from 1, and is 1 for the whole file; `words` are one line."""

    line: int
    words: str
    severity: Severity = Severity.ERROR

    def at(self, file: Path) -> str:
        """The finding in the form of a compiler's message."""
        mark = "hint: " if self.severity is Severity.HINT else ""
        return escape.shown(f"{named(file)}:{self.line}: {mark}{self.words}")


def named(file: Path) -> str:
    """A file's name in one line."""
    return str(file).replace("\n", "\\n")


def shown(word: str) -> str:
    """A word of the file for a line of output: quoted, escaped and shortened unless it is plain and short."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    quoted = repr(word[:_LONGEST_WORD])
    return quoted if len(word) <= _LONGEST_WORD else f"{quoted}..."
