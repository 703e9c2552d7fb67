"""Nodes that did not come up in this run: others made in the same way would fail in the same way, and one failure is enough."""

from pathlib import Path

from harness.errors import HarnessError


class Blocked(HarnessError):  # noqa: N818 - not an error itself, but the consequence of another failure
    """A test cannot tell anything: the node that it asks for did not come up in an earlier test."""


class FailedBoots:
    """The failed boots of one run, in a folder that all its processes share; what other runs left there is ignored."""

    def __init__(self, folder: Path, run: str) -> None:
        """`run` is a name that no other run has."""
        self._folder, self._run = folder, run

    def note(self, key: str, words: str) -> None:
        """Notes that a node with this key did not come up; the first words for a key are kept."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.iterdir():
                if not left.name.startswith(self._run):
                    left.unlink(missing_ok=True)
            with self._place(key).open("x") as file:
                file.write(words)
        except OSError:
            # It was noted before, or cannot be noted; then each test fails by itself.
            return

    def check(self, key: str) -> None:
        """Raises Blocked if a node with this key did not come up before."""
        try:
            words = self._place(key).read_text()
        except OSError:
            return
        raise Blocked(words)

    def _place(self, key: str) -> Path:
        return self._folder / f"{self._run}-{key}"


class Unnoted(FailedBoots):
    """Lets each test boot its nodes, whatever happened to others'."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), "")

    def note(self, key: str, words: str) -> None:
        """Notes nothing."""

    def check(self, key: str) -> None:
        """Lets everything boot."""
