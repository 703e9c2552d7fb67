"""`python -m breaks [NAME...]`: runs each scenario as it is, then broken; it must pass, then fail for the break alone.

A break is a run of pytest of its own that this package, as a plugin, sabotages.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from breaks.ending import Ending, ending_in, fault_in, line_of
from breaks.plugin import VARIABLE
from breaks.table import BREAKS, SHORT, Break
from harness.qualification.canary import Canary

_ROOT = Path(__file__).parent.parent
_SEEN = Path(__file__).with_name("seen.json")
# Each boots a node at times: more at once only wait for each other.
_AT_ONCE = 2
_OUTPUTS = ("--kios-efi", "--kios-initrd", "--kios-modules")


def main() -> int:
    """Runs the command line; returns 1 if a scenario did not pass unbroken, or did not fail as it should."""
    parser = argparse.ArgumentParser(
        prog="python -m breaks", description="Breaks what scenarios check, and sees whether they fail."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BREAKS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="the few that CI runs")
    parser.add_argument("--page", metavar="FILE", help="kiOS's page, for those that break it")
    parser.add_argument("--kios-image", metavar="FILE", help="the image that is broken (default: the reference image)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write what was caught there as JSON, not to seen.json")
    for name in _OUTPUTS:
        parser.add_argument(name, type=Path, metavar="PATH", help="what is to be broken, for scenarios of generation B")
    parser.add_argument("--table", action="store_true", help="print the list as a table, and run nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BREAKS.keys():
        parser.error(f"there is no break {', '.join(sorted(unknown))}; there are {', '.join(BREAKS)}")
    if arguments.table:
        print(table())
        return 0
    given = {name: getattr(arguments, name.lstrip("-").replace("-", "_")) for name in ("--page", *_OUTPUTS)}
    options = [word for name, path in given.items() if path for word in (name, str(Path(path).absolute()))]
    options += ["--kios-image", str(Path(arguments.kios_image).absolute())] if arguments.kios_image else []
    names = arguments.names or (SHORT if arguments.short else list(BREAKS))
    chosen = {name: BREAKS[name] for name in names if not lacks(BREAKS[name].scenario, options)}
    return run(chosen, options, arguments.results)


def lacks(scenario: str, options: Sequence[str]) -> bool:
    """Whether a scenario would be skipped for want of an option."""
    needed = {"page.py": "--page", "in_memory.py": "--kios-initrd"}.get(scenario.partition("::")[0])
    return needed is not None and needed not in options


def run(chosen: Mapping[str, Break], options: Sequence[str], results: Path | None = None) -> int:
    """Runs the controls, then the breaks of those that pass; returns the exit status.

    With `results`, what came of each is written there as it comes (see `canary`), and what was seen stays as it is.
    """
    told: list[Canary] = []

    def tell(name: str, caught: bool, words: str) -> None:
        if results:
            told.append(Canary(name, chosen[name].scenario, chosen[name].how.described(), caught, words))
            results.write_text(json.dumps([asdict(each) for each in told], indent=1) + "\n")

    wrong = caught = 0
    seen = json.loads(_SEEN.read_text()) if _SEEN.exists() else {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        scenarios = list(dict.fromkeys(each.scenario for each in chosen.values()))
        sound = set()
        for scenario, ending in zip(
            scenarios, pool.map(lambda scenario: _ending_of(scenario, {}, options), scenarios), strict=True
        ):
            if ending.kind == "passed":
                sound.add(scenario)
            else:
                print(f"{scenario}: unbroken it ends with {ending.kind}: {ending.words[:300]}", flush=True)
                for name in [name for name, each in chosen.items() if each.scenario == scenario]:
                    tell(name, False, f"unbroken it ends with {ending.kind}: {ending.words[:300]}")
                wrong += 1
        broken = {name: each for name, each in chosen.items() if each.scenario in sound}
        endings = pool.map(lambda name: _ending_of(BREAKS[name].scenario, {VARIABLE: name}, options), broken)
        for name, ending in zip(broken, endings, strict=True):
            fault = fault_in(name, ending)
            print(f"{name}: {fault or 'fails, as it should: ' + line_of(name, ending.words)}", flush=True)
            tell(name, not fault, fault or line_of(name, ending.words))
            wrong += bool(fault)
            caught += not fault
            if not fault and not results:
                seen[name] = line_of(name, ending.words)
                # At once: all of them take an hour and more.
                _SEEN.write_text(json.dumps(dict(sorted(seen.items())), indent=1, ensure_ascii=False) + "\n")
    print(f"breaks: {caught} of {len(chosen)} caught and named")
    return int(wrong > 0)


def table() -> str:
    """The breaks as a table in Markdown."""
    rows = ["| scenario | what is broken | its failure says |", "|---|---|---|"]
    for each in BREAKS.values():
        damage, words = (text.replace("|", "\\|") for text in (each.how.described(), each.words))
        rows.append(f"| `{each.scenario}` | {damage} | `{words}` |")
    return "\n".join(rows)


def _ending_of(scenario: str, environment: Mapping[str, str], options: Iterable[str]) -> Ending:
    """Runs one scenario in a pytest of its own."""
    with tempfile.TemporaryDirectory(prefix="kios-e2e-break-") as folder:
        report = Path(folder) / "junit.xml"
        argv = [sys.executable, "-m", "pytest", f"scenarios/{scenario}"]
        argv += ["--junitxml", str(report), "--artifacts", f"{folder}/artifacts", *options]
        # By the environment: a scenario may start a pytest of its own.
        plugged = {**os.environ, "PYTEST_PLUGINS": "breaks.plugin", **environment}
        done = subprocess.run(argv, cwd=_ROOT, env=plugged, capture_output=True, text=True, check=False)
        if not report.exists():
            return Ending("nothing", f"pytest ended with status {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
        return ending_in(report.read_text())


if __name__ == "__main__":
    sys.exit(main())
