"""`kios-e2e`, also `python -m harness`: what can be asked of the harness without pytest."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the process's own; returns its exit status."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kios-e2e", description="kiOS end-to-end harness.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="check static pod manifests",
        description="Checks manifests as those of one node. Exit status 1 if one of them would not run as it is written.",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.set_defaults(run=_check)
    return parser


# Each command imports what it needs by itself: none waits for another's.


def _check(options: argparse.Namespace) -> int:
    from harness import manifest

    readings = manifest.read_all(options.files)
    for reading in readings:
        for finding in reading.findings:
            _say(finding.at(reading.file))
        if not reading.errors:
            _say(f"{reading.file}: ok")
    return int(any(reading.errors for reading in readings))


def _say(line: str) -> None:
    """Prints a line; what the terminal cannot show is escaped, such as a file name that is no UTF-8."""
    encoding = sys.stdout.encoding
    print(line.encode(encoding, "backslashreplace").decode(encoding))
