"""The one error a build ends with."""


class BuildError(Exception):
    """A build that cannot go on: what failed and, after it, the command or step that mends it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n  {remedy}")
