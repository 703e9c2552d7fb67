"""The errors a build ends with."""


class BuildError(Exception):
    """A build that cannot go on: what failed and, after it, the command or step that mends it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  {remedy}")


class ArchiveError(BuildError):
    """What was handed in cannot be used, and no other try makes it better."""


class Flaw(Exception):  # noqa: N818 - becomes an ArchiveError, which names the archive
    """What an archive says of itself and what it holds do not fit."""
