"""The entries of a run's journal; their fields are JSON values, so a journal can be read without the run's objects.

Times are seconds of the epoch, paths are relative to the journal's folder. A field that an older journal lacks has its default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VERDICTS = ("passed", "failed", "error", "skipped", "blocked", "known", "elsewhere")
"""How a test may end (see `Ended`)."""


@dataclass(frozen=True)
class Began:
    """A run began. `machine` has the dimensions that its options chose; `shard` is as `1/4`, empty for a whole run."""

    run: str
    at: float
    command: str = ""
    harness: str = ""
    shard: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A test that the run is to run.

    `promise` is the first sentence of its module's docstring, `proves` is its own docstring, and `source` is its code, which
    shows what it asserts and where it looks. `pins` are the dimensions of the machine that it sets itself.
    """

    test: str
    promise: str = ""
    proves: str = ""
    source: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """A test that was found and is not run: `tier` lacks it, or, where that is empty, an option such as -k left it out."""

    test: str
    tier: str = ""


@dataclass(frozen=True)
class Fact:
    """Something that the run found out about what it tests, or what it runs on."""

    kind: str
    name: str
    value: str


@dataclass(frozen=True)
class Figure:
    """Something that was measured in a node."""

    test: str
    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True)
class Started:
    """A test was started by one of the run's processes."""

    test: str
    at: float
    process: str = ""


@dataclass(frozen=True)
class Ended:
    """A test ended: `verdict` is `passed`, `failed` (the node), `error` (the harness could not tell) or `skipped`.

    Or it is `blocked` because of an earlier failure, `known` if kiOS is known not to keep the promise, or `elsewhere` if it is
    promised of another generation, or of a disk of other blocks. `party` is who is at fault, `sentence` is the judge's, `words`
    are all words of the failure, `seconds` has what each phase took. `artifacts` is the folder of the test's artifacts.
    """

    test: str
    verdict: str
    at: float
    party: str = ""
    sentence: str = ""
    words: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    artifacts: str = ""


@dataclass(frozen=True)
class Stage:
    """A milestone that a boot passed, in seconds after QEMU's start; `frozen`: passed by the node that it was cloned from."""

    name: str
    after: float
    frozen: bool = False


@dataclass(frozen=True)
class Booted:
    """A run of a node, from QEMU's start to its end.

    `start` is `cold`, `clone` or `template` (a cold boot that was frozen); `template` is the key of the template that it was
    cloned from. `budgets` has the seconds after QEMU's start by which each milestone had to be passed on this host. `status` is
    QEMU's, None if unknown.
    """

    test: str
    node: str
    number: int
    at: float
    seconds: float
    start: str
    template: str = ""
    stages: Sequence[Stage] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    artifacts: str = ""


@dataclass(frozen=True)
class Finished:
    """A run came to its end, with pytest's exit status."""

    at: float
    status: int


Entry = Began | Planned | LeftOut | Fact | Figure | Started | Ended | Booted | Finished
