"""Templates: nodes that were booted once, frozen, and are cloned as often as wanted.

A template is a folder in the cache; its key is made from everything on which it depends. Its description, written last, has
the sizes and times of its files; if these do not match, the template is made again.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness import tools
from harness.errors import HarnessError
from harness.guest.credentials import Credentials
from harness.lab import cache
from harness.verdict.timeline import Passed

Facts = Mapping[str, str]
_FILES = ("disk.qcow2", "variables.fd", "memory", "state", "dhcp.pcap")


@dataclass(frozen=True)
class Template:
    """A frozen node: its files, the milestones that it had passed, and everything on which it depends."""

    folder: Path
    credentials: Credentials
    milestones: tuple[Passed, ...]
    facts: Facts = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        """The qcow2 disk beneath those of the clones."""
        return self.folder / "disk.qcow2"

    @property
    def variables(self) -> Path:
        """The UEFI variable store that the clones copy."""
        return self.folder / "variables.fd"

    @property
    def memory(self) -> Path:
        """The guest's memory, which the clones map."""
        return self.folder / "memory"

    @property
    def state(self) -> Path:
        """The devices' state."""
        return self.folder / "state"

    @property
    def logs(self) -> Path:
        """The artifacts of the frozen node's boot."""
        return self.folder / "boot"

    @property
    def dhcp(self) -> Path:
        """A capture of the frozen node's DHCP messages."""
        return self.folder / "dhcp.pcap"


class Templates:
    """The templates in one folder of the cache, which is kept within `limit` bytes; they are made in `run_folder`.

    If the cache cannot take them, this run keeps its templates in its own folder, and tells `say` why.
    """

    def __init__(self, root: Path, limit: int, run_folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._root, self._limit, self._run_folder, self._say = root, limit, run_folder, say

    @contextlib.contextmanager
    def get(self, facts: Facts, make: Callable[[Path, Credentials], Sequence[Passed]]) -> Iterator[Template]:
        """Yields the template for these facts, made now if there is none, and protects it from removal while it is used.

        `make` fills a folder with the frozen node's files and returns its milestones; it runs once, even if others ask too.
        """
        key = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:16]
        own = self._run_folder / "templates" / key

        def make_own(place: Path) -> None:
            partial = Path(tempfile.mkdtemp(prefix="template-", dir=self._run_folder))
            milestones = [asdict(entry) for entry in make(partial, Credentials.make(partial))]
            description = {"facts": dict(facts), "milestones": milestones, "files": _looks_of(partial)}
            (partial / "template.json").write_text(json.dumps(description, indent=1) + "\n")
            partial.rename(place)

        def make_shared(place: Path) -> None:
            own.parent.mkdir(exist_ok=True)
            make_own(own)
            _move(own, place)

        with contextlib.ExitStack() as used:
            try:
                place = (
                    own
                    if _is_whole(own)
                    else used.enter_context(cache.kept(self._root / key, _is_whole, make_shared, self._limit, self._say))
                )
            except cache.NotKept as refused:
                self._say(f"templates last for this run only: {refused}")
                place = used.enter_context(cache.kept(own, _is_whole, make_own, self._limit, self._say))
            template = _trusted(place)
            if template is None:
                raise HarnessError(
                    f"The template {place} was changed by something other than the harness: use another --image-cache."
                )
            yield template

    @contextlib.contextmanager
    def latest(self, suits: Callable[[Facts, Sequence[str]], bool]) -> Iterator[Template | None]:
        """Yields the suitable template that has passed most milestones, if any, and protects it from removal.

        `suits` is called with a template's facts and the names of its milestones.
        """
        found = [each for file in self._root.glob("*/template.json") if (each := _described(file.parent))]
        suitable = [each for each in found if suits(*each[1:])]
        for place, _, _ in sorted(suitable, key=lambda each: len(each[2]), reverse=True):
            with contextlib.ExitStack() as used:
                try:
                    used.enter_context(cache.kept(place, _is_whole, _refuse, self._limit, self._say))
                except HarnessError:
                    continue
                yield _trusted(place)
                return
        yield None


def _described(place: Path) -> tuple[Path, Facts, Sequence[str]] | None:
    """A template's folder, its facts, and the names of its milestones; None if it is not a template any more."""
    try:
        description = json.loads((place / "template.json").read_text())
        return place, description["facts"], [entry["name"] for entry in description["milestones"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse(place: Path) -> None:
    raise HarnessError(f"The template {place} is gone.")


def _is_whole(place: Path) -> bool:
    return _trusted(place) is not None


def _move(folder: Path, place: Path) -> None:
    """Moves a template, even to another disk; raises NotKept if it cannot be moved, and then leaves it whole where it is."""
    try:
        folder.rename(place)
    except OSError:
        try:
            # Half of a guest's memory file is holes.
            tools.run("cp", "--recursive", "--preserve=mode,timestamps", "--sparse=always", folder, place, timeout=600)
        except HarnessError as refused:
            raise cache.NotKept(f"The template cannot be moved to {place.parent}: {refused}") from refused
        if not _is_whole(place):
            raise cache.NotKept(f"The template was damaged on its way to {place.parent}: check that disk.") from None
        shutil.rmtree(folder, ignore_errors=True)


def _trusted(place: Path) -> Template | None:
    """The template in a folder; None unless all of its files look as they did when it was made."""
    try:
        description = json.loads((place / "template.json").read_text())
        if description["files"] != _looks_of(place):
            return None
        milestones = tuple(Passed(entry["name"], entry["after"], frozen=True) for entry in description["milestones"])
        return Template(place, Credentials(place), milestones, description["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _looks_of(place: Path) -> dict[str, list[int | str]]:
    """Size and modification time of each file, and the digest of those that are small enough to be read each time."""
    looks: dict[str, list[int | str]] = {}
    for name in _FILES:
        status = (place / name).stat()
        looks[name] = [status.st_size, status.st_mtime_ns]
    for name in ("variables.fd", "state"):
        looks[name].append(hashlib.sha256((place / name).read_bytes()).hexdigest())
    return looks
