"""What a check found in a file: where, in words, and how grave it is."""

import enum
import re
from dataclasses import dataclass
from pathlib import Path

from harness import escape

_LONGEST_WORD = 60
_PLAIN_WORD = re.compile(rf"[\w./:-]{{1,{_LONGEST_WORD}}}", re.ASCII)


class Severity(enum.Enum):
    """Whether what was found cannot work, or only will hardly do what was meant."""

    ERROR = "error"
    HINT = "hint"


@dataclass(frozen=True)
class Finding:
    """One fault: `line` counts from 1, where what concerns the whole file is said; `words` are one line."""

    line: int
    words: str
    severity: Severity = Severity.ERROR

    def at(self, file: Path) -> str:
        """The finding as compilers write it."""
        mark = "hint: " if self.severity is Severity.HINT else ""
        return escape.shown(f"{file}:{self.line}: {mark}{self.words}")


def shown(word: str) -> str:
    """A word of the file as it can be put on a line of output: quoted, escaped and cut unless it is plain and short."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    quoted = repr(word[:_LONGEST_WORD])
    return quoted if len(word) <= _LONGEST_WORD else f"{quoted}..."
