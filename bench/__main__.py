"""`python -m bench`: measures, prints a table, and writes it with this host's description as JSON.

A benchmark is no test: a figure that misses its goal is marked MISS, and the exit status stays 0.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import figures, peers
from bench.lab import Lab
from harness.lab.keeper import Keeper


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the harness on this host.")
    parser.add_argument("--json", type=Path, default=Path("artifacts/bench.json"), help="where the figures go (%(default)s)")
    parser.add_argument("--qemu", help="QEMU to measure with (default: the one in the cache, else the system's)")
    measures = {measure.__name__: measure for measure in figures.ALL + peers.ALL}
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"only these of {', '.join(measures)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - measures.keys():
        parser.error(f"there is no measure {', '.join(sorted(unknown))}; there are {', '.join(measures)}")
    folder = Path(tempfile.mkdtemp(prefix="kios-e2e-bench-"))
    keeper = Keeper.start(folder)
    measured: list[figures.Figure] = []
    try:
        for measure in [measures[name] for name in arguments.measures or measures]:
            for figure in measure(Lab.open(arguments.qemu, folder)):
                print(figure.row(), flush=True)
                measured.append(figure)
    finally:
        keeper.close()
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"host": _host(), "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in measured]}
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {arguments.json}")
    return 0


def _host() -> dict[str, object]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": model[0].partition(": ")[2] if model else "unknown",
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": git.stdout.strip(),
    }


if __name__ == "__main__":
    sys.exit(main())
