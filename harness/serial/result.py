"""The result of a command on the node."""

from dataclasses import dataclass

_BRIEF_CHARACTERS = 100


@dataclass(frozen=True)
class Result:
    """A command's exit status (0 to 255), and its stdout and stderr, merged in the order in which they were written."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output decoded as UTF-8, with replacement."""
        return self.output.decode(errors="replace")


def brief(command: str) -> str:
    """A command for an error message: quoted, and shortened to one line."""
    return repr(command if len(command) <= _BRIEF_CHARACTERS else f"{command[:_BRIEF_CHARACTERS]}...")
