"""`python -m faults [NAME...]`: runs each scenario as it is, then with each fault; it must pass, then fail for the fault alone.

A fault is a run of pytest of its own that this package, as a plugin, sabotages.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults import ledger, matrix, plugin
from faults import verdict as verdicts
from faults.fault import Fault
from faults.ledger import Seen
from faults.sabotage import Outside, Surroundings
from faults.table import FAULTS, SHORT
from faults.verdict import Verdict
from harness.errors import HarnessError, InputError, Party
from harness.lab import builder, cache
from harness.lab.generation import Generation
from harness.lab.keeper import scratch
from harness.lab.wanted import Wanted
from harness.qualification import canary
from harness.shard import Shard

_ROOT = Path(__file__).parent.parent
_SEEN = Path(__file__).with_name("seen.json")
# Of more than there are CPUs, each of which keeps one busy, as a firmware that finds nothing does, none would get its due.
_AT_ONCE = os.cpu_count() or 1
_OUTPUTS = ("--kios-efi", "--kios-initrd", "--kios-modules")


def main() -> int:
    """Runs the command line; returns 1 if a scenario did not pass without a fault, or a fault was not caught and named."""
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - FAULTS.keys():
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    if arguments.table:
        print(matrix.page(ledger.read(_SEEN)), end="")
        return 0
    given = {name: getattr(arguments, name.lstrip("-").replace("-", "_")) for name in ("--page", *_OUTPUTS)}
    options = [word for name, path in given.items() if path for word in (name, str(Path(path).absolute()))]
    is_the_reference = not any([arguments.kios_image, *(given[name] for name in _OUTPUTS)])
    file = arguments.results or _SEEN
    seen = ledger.read(file)
    if arguments.generation and is_the_reference:
        parser.error("--generation says what the kiOS under test is: name that too, with --kios-image FILE")
    generation = Generation(arguments.generation) if arguments.generation else None
    options += ["--generation", generation.value] if generation else []
    under_test = Wanted(arguments.kios_image, arguments.kios_efi, arguments.kios_modules, arguments.kios_initrd, generation)
    try:
        belief = under_test.believed(cache.folder(None))
    except InputError as unfit:
        parser.error(str(unfit))
    believed = belief.generation if belief else None
    names = arguments.names or (SHORT if arguments.short else list(FAULTS))
    wanted = {
        name: FAULTS[name]
        for name in names
        if (not arguments.shard or Shard.parse(arguments.shard).has(name))
        and (arguments.k in name or arguments.k in FAULTS[name].scenario)
        and not lacks(FAULTS[name].scenario, options, Generation.B if is_the_reference else believed)
    }
    done = {name: seen[name] for name in wanted if arguments.resume and name in seen and seen[name].is_named}
    chosen = {name: fault for name, fault in wanted.items() if name not in done}
    told: dict[str, Seen] = {}
    with ended_at_once() as folder:
        subjects = dict.fromkeys((each.scenario for each in chosen.values()), Subject(arguments.kios_image, options))
        if is_the_reference and (memory := [each for each in subjects if _is_of_generation_b(each)]):
            subjects |= dict.fromkeys(memory, Subject(None, [*options, *_variant_b()]))
        for name, one in run(chosen, subjects, folder):
            print(f"{name}: {one.wrong or 'caught and named: ' + (one.line or 'nothing is noticed')}", flush=True)
            told[name] = one
            # At once: all of them take an hour and more.
            ledger.write(file, {**seen, **told})
            if arguments.canaries:
                canary.write(arguments.canaries, [_as_canary(name, each) for name, each in told.items()])
    print(ledger.last_line({**done, **told}))
    return int(not all(one.is_named for one in told.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m faults", description="Breaks what scenarios check, and sees whether their verdicts are the right ones."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the faults in docs/faults.md (default: all)")
    parser.add_argument("--short", action="store_true", help="the few that CI runs")
    parser.add_argument("-k", metavar="WORD", default="", help="those with this in their name or scenario")
    parser.add_argument("--shard", metavar="K/N", help="the K-th of N parts")
    parser.add_argument("--resume", action="store_true", help="none that --results has as caught and named")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write what was seen there as JSON, not to seen.json")
    parser.add_argument("--canaries", type=Path, metavar="FILE", help="write what was caught there as kios-e2e report reads it")
    parser.add_argument("--page", metavar="FILE", help="kiOS's page, for those that break it")
    parser.add_argument("--kios-image", type=Path, metavar="FILE", help="the image to break (default: the reference image)")
    for name in _OUTPUTS:
        parser.add_argument(name, type=Path, metavar="PATH", help="what is to be broken, for scenarios of generation B")
    parser.add_argument("--generation", choices=("a", "b"), help="the generation of that kiOS")
    parser.add_argument("--table", action="store_true", help="print docs/faults.md, and run nothing")
    return parser


@contextlib.contextmanager
def ended_at_once() -> Iterator[Path]:
    """A folder for all runs; a signal ends this process at once, and the keeper those runs and the folder.

    Python would wait for them at a Ctrl-C, and a shell has its jobs in the background ignore one.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    with scratch("kios-e2e-faults-") as folder:
        yield folder


def lacks(scenario: str, options: Sequence[str], generation: Generation | None) -> bool:
    """Whether a scenario would be skipped for want of an option, or of a kiOS of generation B."""
    if _is_of_generation_b(scenario):
        return generation is not Generation.B
    return scenario.startswith("page.py") and "--page" not in options


def _is_of_generation_b(scenario: str) -> bool:
    return scenario.startswith("in_memory.py")


def _variant_b() -> list[str]:
    """The outputs of the reference image's variant b as options, built now where they are missing."""
    made = Path(builder.ask("build", "--variant", "b"))
    files = {"--kios-efi": "boot/EFI/Boot/Bootx64.efi", "--kios-initrd": "initrd", "--kios-modules": "lib/modules"}
    return [word for option, file in files.items() for word in (option, str(made / file))]


@dataclass(frozen=True)
class Subject:
    """What is broken: an image, by default the reference image, with further options of pytest's."""

    image: Path | None
    options: Sequence[str]

    def given(self) -> list[str]:
        """As options of pytest's."""
        return [*self.options, *(["--kios-image", str(self.image.absolute())] if self.image else [])]

    def as_image(self) -> Path:
        """The image's file; raises HarnessError where none was built."""
        return self.image or Path(builder.ask("find")) / "kios.img"


def run(chosen: Mapping[str, Fault], subjects: Mapping[str, Subject], folder: Path) -> Iterator[tuple[str, Seen]]:
    """Runs the controls, each followed by the faults of its scenario; yields what was seen of each, by its name.

    `subjects` has what is broken, by the scenario. What the runs write is in `folder`.
    """
    ends: dict[str, Future[Seen]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for scenario in dict.fromkeys(each.scenario for each in chosen.values()):
            # Submitted first, it has begun when a fault waits for its end.
            subject = subjects[scenario]
            unbroken = partial(verdict_on, scenario, {}, subject.given(), Surroundings(), folder)
            control = pool.submit(on_a_host_with_time, unbroken)
            for name in [name for name, each in chosen.items() if each.scenario == scenario]:
                ends[name] = pool.submit(_seen_of, name, control, subject, folder)
        for name, end in ends.items():
            yield name, end.result()


def _seen_of(name: str, control: Future[Verdict], subject: Subject, place: Path) -> Seen:
    fault = FAULTS[name]
    unbroken = control.result()
    if unbroken.kind != "passed":
        words = f"without a fault it ends with {unbroken.kind}: {unbroken.words[:300]}"
        return Seen(caught=False, line="", wrong=words)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        surroundings = Surroundings()
        if isinstance(fault.how, Outside):
            try:
                surroundings = fault.how.make(Path(folder), subject.as_image())
            except (HarnessError, OSError) as unmade:
                return Seen(caught=False, line="", wrong=f"the fault could not be made: {unmade}")
        broken = partial(verdict_on, fault.scenario, {plugin.NAME: name}, subject.given(), surroundings, place)
        verdict = broken() if fault.party is Party.HOST else on_a_host_with_time(broken)
    if not verdicts.is_caught(fault, verdict):
        wrong = f"NOT CAUGHT: it ended with {verdict.kind} {verdict.words[:300]}"
        return Seen(caught=False, line="", wrong=wrong, seconds=verdict.seconds)
    misnamed = verdicts.misnaming(name, verdict, FAULTS)
    return Seen(
        caught=True,
        line=verdicts.line_of(fault, verdict),
        wrong=f"MISNAMED: {misnamed}" if misnamed else "",
        seconds=None if verdict.seconds is None else round(verdict.seconds, 1),
    )


def on_a_host_with_time(tried: Callable[[], Verdict]) -> Verdict:
    """The verdict of a run, or of a second one if the host was too busy for the first, which tells nothing of a fault then."""
    first = tried()
    return tried() if verdicts.is_of_a_busy_host(first) else first


def verdict_on(
    scenario: str, environment: Mapping[str, str], options: Iterable[str], around: Surroundings, place: Path
) -> Verdict:
    """Runs one scenario in a pytest of its own, which writes to a folder in `place`."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        report, observed = Path(folder) / "junit.xml", Path(folder) / "observed.json"
        argv = [*around.before, sys.executable, *around.interpreter, "-m", "pytest", f"scenarios/{scenario}"]
        argv += ["--junitxml", str(report), "--artifacts", f"{folder}/artifacts", *options, *around.options]
        # By the environment: a scenario may start a pytest of its own.
        plugged = {**os.environ, "PYTEST_PLUGINS": "faults.plugin", **environment, plugin.OBSERVED: str(observed)}
        done = subprocess.run(
            argv, cwd=_ROOT, env={**plugged, **around.environment}, capture_output=True, text=True, check=False
        )
        if not report.exists():
            return verdicts.refusal(f"pytest ended with status {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
        verdict = verdicts.read(report.read_text(), observed.read_text() if observed.exists() else "{}")
        if verdict.kind == "passed" and done.returncode:
            return verdicts.refusal(f"it passed, and pytest ended with status {done.returncode}: {done.stdout[-600:]}")
        return verdict


def _as_canary(name: str, seen: Seen) -> canary.Canary:
    fault = FAULTS[name]
    return canary.Canary(name, fault.scenario, fault.how.described(), seen.is_named, seen.wrong or seen.line)


if __name__ == "__main__":
    sys.exit(main())
