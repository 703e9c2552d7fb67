"""A file on a branch of git's that nobody has to check out: read, and committed to, by git's plumbing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import HarnessError, InputError

PREFIX = "git:"
# What has no branch yet has no parent (git-update-ref(1)).
_NONE = "0" * 40
# Another may have the branch locked for a moment.
_TRIES, _PAUSE = 20, 0.1
_AUTHOR = ("-c", "user.name=kios-e2e", "-c", "user.email=kios-e2e@kios.invalid", "-c", "commit.gpgSign=false")


@dataclass(frozen=True)
class Branch:
    """A local branch of the repository that this process runs in."""

    name: str

    @classmethod
    def named_by(cls, place: Path) -> "Branch | None":
        """The branch that `git:NAME` names; None for any other place, which is a folder."""
        return cls(str(place).removeprefix(PREFIX)) if str(place).startswith(PREFIX) else None

    def read(self, file: str) -> str:
        """What the file holds; nothing where there is no such file, or no such branch yet."""
        self._check()
        tip = self._tip()
        return self._text(tip, file) if tip else ""

    def change(self, file: str, change: Callable[[str], str], message: str) -> None:
        """Commits what `change` makes of the file's content, and leaves the branch's other files as they are.

        Where somebody else commits meanwhile, it is made of theirs. Raises InputError where the branch takes no commit, or
        is checked out: its files would lag behind.
        """
        self._check()
        self._refuse_checked_out()
        refused = ""
        for _ in range(_TRIES):
            before = self._tip()
            text = change(self._text(before, file) if before else "")
            commit = self._committed(file, text, message, before)
            done = tools.run("git", "update-ref", self._ref, commit, before or _NONE, ok=(0, 128))
            if done.returncode == 0:
                return
            refused = done.stderr.decode(errors="replace").strip()
            time.sleep(_PAUSE)
        raise InputError(f"The branch {self.name} takes no commit: {refused}")

    def _tip(self) -> str:
        """Its last commit; nothing where there is no such branch yet."""
        return self._told("rev-parse", "--verify", "--quiet", self._ref, ok=(0, 1))

    def _committed(self, file: str, text: str, message: str, before: str) -> str:
        """A commit behind another one, if there is one, in which the file has another content."""
        blob = self._told("hash-object", "-w", "--stdin", stdin=text)
        others = self._told("ls-tree", before).splitlines() if before else []
        entries = [each for each in others if each.partition("\t")[2] != file]
        tree = self._told("mktree", stdin="".join(f"{each}\n" for each in [*entries, f"100644 blob {blob}\t{file}"]))
        return self._told(*_AUTHOR, "commit-tree", tree, *(("-p", before) if before else ()), "-m", message)

    def _text(self, tip: str, file: str) -> str:
        # What is there and cannot be read is an error: it would be replaced as if it were nothing.
        if not self._told("ls-tree", "--name-only", tip, "--", file):
            return ""
        return tools.run("git", "cat-file", "blob", f"{tip}:{file}").stdout.decode(errors="replace")

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.name}"

    def _check(self) -> None:
        try:
            tools.run("git", "check-ref-format", self._ref)
            tools.run("git", "rev-parse", "--git-dir")
        except HarnessError as unfit:
            raise InputError(f"{PREFIX}{self.name} names no branch of a repository here: {unfit}") from unfit

    def _refuse_checked_out(self) -> None:
        place = ""
        for line in self._told("worktree", "list", "--porcelain").splitlines():
            word, _, value = line.partition(" ")
            place = value if word == "worktree" else place
            if (word, value) == ("branch", self._ref):
                raise InputError(f"The branch {self.name} is checked out in {place}: name that folder in its place.")

    def _told(self, *words: str, stdin: str = "", ok: tuple[int, ...] = (0,)) -> str:
        return tools.run("git", *words, input=stdin.encode(), ok=ok).stdout.decode(errors="replace").strip()
