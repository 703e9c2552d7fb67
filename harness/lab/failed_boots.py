"""What did not come up in this run: what is made alike fails alike, and one failure says it for all."""

from pathlib import Path

from harness.errors import HarnessError


class Blocked(HarnessError):  # noqa: N818 - a state of the run, of which another failure is the reason
    """A test cannot tell anything: the node that it asks for did not come up in an earlier one."""


class FailedBoots:
    """The failed boots of one run, in a folder that all its processes share; what other runs left there counts for nothing."""

    def __init__(self, folder: Path, run: str) -> None:
        """`run` is a name that no other run has."""
        self._folder, self._run = folder, run

    def note(self, key: str, words: str) -> None:
        """Notes that what is made as `key` says did not come up; the first words stay."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.iterdir():
                if not left.name.startswith(self._run):
                    left.unlink(missing_ok=True)
            with self._place(key).open("x") as file:
                file.write(words)
        except OSError:
            # It was noted before, or cannot be: then each test says it by itself.
            return

    def check(self, key: str) -> None:
        """Raises Blocked where what is made so did not come up before."""
        try:
            words = self._place(key).read_text()
        except OSError:
            return
        raise Blocked(words)

    def _place(self, key: str) -> Path:
        return self._folder / f"{self._run}-{key}"


class Unnoted(FailedBoots):
    """Each test boots its nodes, whatever became of others'."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), "")

    def note(self, key: str, words: str) -> None:
        """Notes nothing."""

    def check(self, key: str) -> None:
        """Lets everything boot."""
