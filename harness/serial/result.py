"""What a command on the node came to."""

from dataclasses import dataclass

_BRIEF_CHARACTERS = 100


@dataclass(frozen=True)
class Result:
    """A command's exit status (0 to 255), and its stdout and stderr, merged in the order written."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output decoded as UTF-8, with replacement."""
        return self.output.decode(errors="replace")


def brief(command: str) -> str:
    """A command as an error's text has it: quoted, and no longer than one line."""
    return repr(command if len(command) <= _BRIEF_CHARACTERS else f"{command[:_BRIEF_CHARACTERS]}...")
