"""`kios-e2e qualify`: runs a tier's plan, step by step, and ends with one answer and one report, however it ends."""

import argparse
import contextlib
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from harness import tools
from harness.errors import EXIT_STATUS, DamagedImageError, InputError
from harness.history import night
from harness.journal import journal
from harness.journal.entry import Ended, Planned, Started
from harness.lab import artifacts, bundle, cache
from harness.lab.generation import Belief, Generation
from harness.lab.wanted import Wanted
from harness.progress import last_words
from harness.qualification import canary, matrix, task
from harness.qualification.answer import Answer
from harness.qualification.plan import Step, plan
from harness.qualification.task import Task
from harness.report import binder, earlier
from harness.scribe import commit
from harness.watch import Watch

_ROOT = Path(__file__).parent.parent
_REPORT = "report"
_LOOK_SECONDS = 1.0
# A run that is told to end ends its nodes first.
_END_SECONDS = 90.0
_WORDS = 2000
_OUTPUT = "output.log"
_MOST_LOOKED_AT = 1 << 16
_FOR_CANARIES = ("--container", "--generation", "--own-pods", "--network", "--accelerator", "--qemu", "--image-cache")
OUTPUTS = ("--kios-efi", "--kios-modules", "--kios-initrd")
"""The options that name the outputs of kiOS's build."""


@dataclass(frozen=True)
class Wish:
    """What is to be qualified and how: `options` go to every run as they are, such as `--container FILE`.

    `image` is an image; in its place, or beside it, there may be `outputs` of kiOS's build, by the options that name them.
    `command` is what its user wrote.
    """

    image: Path | None
    out: Path
    tier: str
    matrix: Path = matrix.DEFAULT
    against: Path | None = None
    history: Path | None = None
    minutes: float | None = None
    scenarios: Path = _ROOT / "scenarios"
    excused: Sequence[str] = ()
    options: Sequence[str] = ()
    shard: str = ""
    goes_on: bool = False
    command: str = ""
    outputs: Mapping[str, Path] = field(default_factory=dict)
    generation: Generation | None = None

    @property
    def files(self) -> Mapping[str, Path]:
        """What is under test, by the options that name it."""
        return {**({"--kios-image": self.image} if self.image else {}), **self.outputs}

    @property
    def under_test(self) -> Sequence[str]:
        """What names it, as options."""
        named = {option: str(path.absolute()) for option, path in self.files.items()}
        chosen = {"--generation": self.generation.value} if self.generation else {}
        return [word for each in (named | chosen).items() for word in each]

    @property
    def wanted(self) -> Wanted:
        """The same, as it can be looked at."""
        efi, modules, initrd = map(self.outputs.get, OUTPUTS)
        return Wanted(image=self.image, efi=efi, modules=modules, initrd=initrd, generation=self.generation)


def qualify(wish: Wish, watch: Watch) -> Answer:
    """Runs the plan and returns the answer. A Ctrl-C, and any error on the way, leaves the report of what was done.

    An image that no node can be made of is not qualified, and nothing is run. Raises InputError for what cannot be qualified
    for another reason: before anything runs, or where no test of a node's was run by then.
    """
    if wish.generation and not wish.files:
        raise InputError("--generation says what the kiOS under test is: name that too, with --kios-image FILE.")
    damage, belief = _looked_at(wish.wanted)
    # Path.is_dir raises for a folder below one that this user may not enter.
    if not os.path.isdir(wish.scenarios):  # noqa: PTH112
        raise InputError(f"There are no scenarios in {wish.scenarios}: name their folder with --scenarios DIR.")
    before = earlier.of(wish.against).runs if wish.against else ()
    if wish.history:
        night.read(wish.history)
    machines = matrix.read(wish.matrix)
    if belief and belief.generation is Generation.B:
        machines = machines.of_generation_b()
    # Machines may be alike and run other scenarios: a step took what that very step took.
    took = {run.step: run.seconds for run in before}
    planned = plan(machines, wish.tier, {run.machine: run.seconds for run in before})
    steps = [replace(step, seconds=took.get(step.folder, step.seconds)) for step in planned]
    task.check(steps)
    with task.alone_in(wish.out):
        _take(wish, steps, damage)
        return _bind(wish) if damage else _done(wish, steps, watch)


def _done(wish: Wish, steps: Sequence[Step], watch: Watch) -> Answer:
    """Runs the steps, and makes the report however that ends."""
    cut_short = "it was interrupted"
    try:
        with _ended_like_by_ctrl_c():
            cut_short = _run_all(wish, steps, watch)
    except KeyboardInterrupt:
        pass
    except InputError as unfit:
        cut_short = str(unfit)
        raise
    except Exception as failed:
        cut_short = f"the harness itself failed ({type(failed).__name__}: {failed})"
        raise
    finally:
        watch.close()
        answer = _bind(wish, cut_short)
    return answer


def _looked_at(wanted: Wanted) -> tuple[str, Belief | None]:
    """What is damaged of what is under test, and which generation it is taken for; None for what cannot be."""
    try:
        wanted.check()
        return "", wanted.believed(cache.folder(wanted.cache))
    except DamagedImageError as damage:
        return str(damage), None


def _bind(wish: Wish, cut_short: str = "") -> Answer:
    return binder.bind(
        [wish.out],
        wish.out / _REPORT,
        against=wish.against,
        history=wish.history,
        excused=wish.excused,
        cut_short=cut_short,
    )


def _take(wish: Wish, steps: Sequence[Step], damage: str) -> None:
    """Writes down what is to be done in the folder; InputError for a folder of something else."""
    facts = [f"{file.absolute()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in wish.files.values()]
    facts += [f"generation {wish.generation}"] if wish.generation else []
    wanted = Task(
        image="; ".join(facts) or "reference",
        tier=wish.tier,
        steps=[step.name for step in steps],
        options=list(wish.options),
        shard=wish.shard,
        scenarios=str(wish.scenarios.absolute()),
        words=[[*step.options, *step.scenarios] for step in steps],
        canaries=[name for step in steps for name in step.canaries],
        harness=commit(),
        command=wish.command,
        damage=damage,
    )
    there = task.read(wish.out)
    if there is not None and not wish.goes_on:
        raise InputError(f"{wish.out} holds a qualification already: go on with it by --resume, or name another folder.")
    if there is None and (journal.any_in([wish.out]) or task.found_in([wish.out])):
        raise InputError(f"{wish.out} holds other runs, which would count: name another folder.")
    if there is not None and (changed := wanted.unlike(there)):
        raise InputError(f"{wish.out} holds another qualification (other {', '.join(changed)}): name another folder.")
    try:
        wanted.write(wish.out)
    except OSError as refused:
        raise InputError(f"{wish.out} cannot be written ({refused.strerror}): name another folder.") from refused


def _run_all(wish: Wish, steps: Sequence[Step], watch: Watch) -> str:
    """Runs the steps; returns why not all of them ended as they should, nothing if all did."""
    ends = time.monotonic() + wish.minutes * 60 if wish.minutes is not None else math.inf
    reasons, left_out = [], []
    for number, step in enumerate(steps):
        if task.is_done(wish.out, step):
            watch.say(f"{step.name}: done before")
            continue
        if number and time.monotonic() + step.seconds > ends:
            left_out.append(step.name)
            continue
        left = sum(each.seconds for each in steps[number:] if not task.is_done(wish.out, each))
        watch.begin(step.name, number + 1, len(steps), left)
        if words := _run(wish, step, watch, ends):
            reasons.append(f"{step.name}: {words}")
        elif not journal.any_in([wish.out]):
            # Nothing has begun that could be gone on with.
            (wish.out / task.NAME).unlink()
            part = f" and shard {wish.shard}" if wish.shard else ""
            raise InputError(
                f"pytest finds no test in {wish.scenarios}{part} that asks for a node: name a folder of scenarios with "
                f"--scenarios DIR, and see what it finds there with: pytest --collect-only {wish.scenarios}"
            )
        if number + 1 < len(steps):
            # For whoever looks while it runs, and where this process is killed or its host goes down.
            _bind(wish, f"it had come to {step.name}, {number + 1} of {len(steps)} steps, when this was written")
    if left_out:
        reasons.append(f"the budget of {wish.minutes:g} minutes left out: {', '.join(left_out)}")
    return "; ".join(reasons)


def _run(wish: Wish, step: Step, watch: Watch, ends: float) -> str:
    """Runs a step to its end, or to when the budget ends; returns what went wrong with it other than what its journal says."""
    folder = wish.out / task.RUNS / step.folder
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _END_SECONDS
    # The run of a qualification that was killed ends its nodes first.
    while not artifacts.is_free(folder) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    # What an earlier run of a step that was cut off did was told then.
    earlier_runs = _journals(folder)
    with (folder / _OUTPUT).open("w") as output:
        running = subprocess.Popen(
            [str(tools.find("setpriv")), "--pdeathsig", "INT", "--", *_argv(wish, step, folder)],
            # It is where its user is: paths among the options are from there.
            env=_environment(wish, step),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while running.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(_LOOK_SECONDS)
                _look(folder, earlier_runs, watch)
                if time.monotonic() > ends:
                    _interrupt(running)
                    return f"it was not through when the budget of {wish.minutes:g} minutes ended"
        except KeyboardInterrupt:
            # A Ctrl-C in a terminal has reached it too; a second one changes nothing.
            _interrupt(running)
            raise
        finally:
            running.kill()
            running.wait()
    last = (folder / _OUTPUT).read_text(errors="replace")[-_WORDS:].strip()
    if step.canaries:
        there = {each.name for each in canary.found_in([folder])}
        lacking = [name for name in step.canaries if name not in there]
        return f"no word of {', '.join(lacking)}: {last}" if lacking else ""
    is_whole = running.returncode in (*task.TO_ITS_END, *EXIT_STATUS.values())
    return "" if is_whole else f"pytest ended with status {running.returncode}: {last}"


def _interrupt(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(_END_SECONDS)


def _argv(wish: Wish, step: Step, folder: Path) -> list[str]:
    if step.canaries:
        results = ["--results", str(folder.absolute() / "faults.json"), "--canaries", str(folder.absolute() / canary.NAME)]
        return [sys.executable, "-P", "-m", "faults", *step.canaries, *results, *wish.under_test]
    return [
        *(sys.executable, "-P", "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "-v", "-n", "auto"),
        *(str(wish.scenarios / each) for each in step.scenarios or ["."]),
        *step.options,
        *("--bundle-on-failure", "--bundle-limit", str(bundle.left(bundle.LIMIT, wish.out))),
        *wish.options,
        *wish.under_test,
        *(["--shard", wish.shard] if wish.shard else []),
        *("--artifacts", str(folder.absolute()), "--junitxml", str(folder.absolute() / "junit.xml")),
    ]


def _environment(wish: Wish, step: Step) -> dict[str, str]:
    """That of a run. Canaries are runs of pytest's own: they have the options that say what is tested, and on what, by it."""
    added = {"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    if step.canaries:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for option in _FOR_CANARIES:
            parser.add_argument(option, dest=option, action="append", default=[])
        given, _ = parser.parse_known_args(list(wish.options))
        words = [f"{option}={_absolute(value)}" for option, values in vars(given).items() for value in values]
        added["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} {shlex.join(words)}"
    return {**os.environ, **added}


def _absolute(value: str) -> str:
    return str(Path(value).absolute()) if Path(value).exists() else value


def _journals(folder: Path) -> frozenset[Path]:
    return frozenset(folder.glob("journal-*"))


def _look(folder: Path, earlier_runs: frozenset[Path], watch: Watch) -> None:
    stages = last_words(_end_of(folder / _OUTPUT))
    for file in _journals(folder) - earlier_runs:
        entries = list(journal.read(file))
        running = {entry.test: entry.at for entry in entries if isinstance(entry, Started)}
        ended = [entry for entry in entries if isinstance(entry, Ended)]
        for entry in ended:
            running.pop(entry.test, None)
        watch.see(running, ended, sum(isinstance(entry, Planned) for entry in entries), stages)


def _end_of(file: Path) -> str:
    with file.open("rb") as output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - _MOST_LOOKED_AT))
        return output.read().decode(errors="replace")


@contextlib.contextmanager
def _ended_like_by_ctrl_c() -> Iterator[None]:
    """A CI that cancels sends SIGTERM: the report is made then too.

    A shell has its jobs in the background ignore SIGINT, and so would all runs after them.
    """

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
