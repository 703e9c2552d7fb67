"""`kios-e2e`, also `python -m harness`: what the harness does without pytest."""

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import named
from harness.errors import HarnessError, InputError, NodeFailure, is_shortage, words_of
from harness.escape import shown

if TYPE_CHECKING:
    from harness.manifests.manifest import Reading
    from harness.qualification.answer import Answer

# For commands that end with an answer, of which 1 is one: not qualified.
_COULD_NOT_TELL = 2
# As a shell has it (SIGINT).
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the process's own; returns its exit status.

    A command that ends with an answer has one for whatever hinders it: it could not tell.
    """
    _open_what_the_shell_closed()
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["kios-e2e", *(sys.argv[1:] if arguments is None else arguments)])
    answers = options.could_not == _COULD_NOT_TELL
    try:
        status: int = options.run(options)
        return status
    except (HarnessError, NodeFailure) as failed:
        words = str(failed)
    except KeyboardInterrupt:
        if not answers:
            return _INTERRUPTED
        words = "it was interrupted"
    except Exception as failed:
        if is_shortage(failed):
            words = words_of(failed)
        elif not answers:
            raise
        else:
            traceback.print_exc()
            words = "the harness itself failed, as is said above"
    print(f"kios-e2e: {'could not tell: ' if answers else ''}{shown(words)}", file=sys.stderr)
    return int(options.could_not)


def _open_what_the_shell_closed() -> None:
    """Python has no stdin, stdout or stderr that its shell has closed, and what is opened next would have its number."""
    for name, how in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(how))  # noqa: SIM115 - for as long as the process runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kios-e2e", description="kiOS end-to-end harness.")
    parser.set_defaults(could_not=1)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="check static pod manifests",
        description="Checks the manifests of one node. Exit status 1 if one of them would not run as it is written.",
    )
    check.add_argument("files", nargs="+", type=named.path, metavar="FILE", help="a manifest; - is stdin")
    check.add_argument("--no-build", action="store_true", help="never build the program that has the kubelet's own rules")
    check.add_argument("--image-cache", type=named.path, metavar="DIR", help="where that program is kept")
    check.add_argument("--memory", metavar="SIZE", help="the node's memory: checks whether the pods' requests fit into it")
    check.add_argument("--cpus", type=int, metavar="N", help="the node's CPUs: checks the same of them")
    check.set_defaults(run=_check)

    under_test = _under_test_options()
    node = _node_options(under_test)
    doctor = commands.add_parser(
        "doctor",
        parents=[node],
        help="say what this host has and lacks",
        description="Says what this host has and lacks, and how to get it. Exit status 1 if something is lacking.",
    )
    doctor.set_defaults(run=_doctor)

    boot = commands.add_parser(
        "boot",
        parents=[node],
        help="boot a node and connect to its console; Ctrl-] leaves",
        description="Boots a node and connects this terminal to its serial console. Ctrl-] ends the node and leaves nothing.",
    )
    boot.add_argument(
        "--manifest",
        type=named.path,
        action="append",
        metavar="FILE",
        help="a static pod; may be given more than once (default: none)",
    )
    boot.set_defaults(run=_boot)

    enter = commands.add_parser(
        "enter",
        help="resume a failed node from its bundle, with a Python prompt",
        description="Resumes a failed node where it failed (docs/bundles.md), with a Python prompt that knows `node`, `wire` "
        "and `disk`. If stdin is not a terminal, what it contains is run instead. Ctrl-D ends the node.",
    )
    enter.add_argument("bundle", type=named.path, metavar="FAIL.tar.zst", help="one of a failed test's artifacts")
    enter.add_argument(
        "--kios-image", type=named.path, metavar="FILE", help="the node's image (default: where it was, if unchanged)"
    )
    enter.add_argument(
        "--at", default="", metavar="MILESTONE", help="instead, clone the last template that has not passed this milestone"
    )
    enter.add_argument("--leave-clock", action="store_true", help="leave the node's clock at the time of the failure")
    enter.add_argument(
        "--qemu", type=named.word, metavar="PROGRAM", help="QEMU (default: the one in the cache, else the system's)"
    )
    enter.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto", help="default: the failed node's")
    enter.add_argument("--network", choices=("restricted", "open"), default="restricted", help="whether the node may reach out")
    enter.add_argument("--image-cache", type=named.path, metavar="DIR", help="where the reference image's parts are kept")
    enter.set_defaults(run=_enter)

    compared = argparse.ArgumentParser(add_help=False)
    compared.add_argument("--against", type=named.path, metavar="REPORT", help="an earlier report, to compare boots with")
    compared.add_argument(
        "--history",
        type=named.path,
        metavar="PLACE",
        help="where `kios-e2e history add` keeps the nights: a folder or git:BRANCH",
    )
    compared.add_argument(
        "--excuse", type=_pattern, action="append", default=[], metavar="TEST", help="a test that need not be proven"
    )

    qualify = commands.add_parser(
        "qualify",
        parents=[under_test, compared],
        help="say whether an image can be released",
        description="Runs the scenarios on a matrix of machines, and canaries that show that the harness can fail. Ends with "
        "one answer and a report. Exit status 0 if the image is qualified, 1 if it is not, 2 if that could not be told.",
        epilog="What follows -- is passed to every run of pytest: -- --container FILE --page FILE",
    )
    qualify.add_argument(
        "--out", type=named.path, required=True, metavar="DIR", help="folder for the runs' artifacts and the report"
    )
    qualify.add_argument("--tier", choices=("presubmit", "nightly", "release"), default="release", help="how much is run")
    qualify.add_argument("--matrix", type=named.path, metavar="FILE", help="machines and canaries (default: the harness's own)")
    qualify.add_argument(
        "--budget", type=_minutes, metavar="MINUTES", help="steps that would take longer are left out or ended, and named"
    )
    qualify.add_argument("--scenarios", type=named.path, metavar="DIR", help="other scenarios than the harness's own")
    qualify.add_argument("--shard", type=named.word, metavar="K/N", help="run a part; `kios-e2e report` joins the parts")
    qualify.add_argument("--resume", action="store_true", help="continue the qualification in the folder")
    qualify.add_argument("options", nargs="*", metavar="-- OPTION", help="for every run of pytest")
    qualify.set_defaults(run=_qualify, could_not=_COULD_NOT_TELL)

    report = commands.add_parser(
        "report",
        parents=[compared],
        help="put runs together into one report",
        description="Puts the runs in some folders of artifacts together: one HTML page, and the same as JSON. Exit status 0 "
        "if what was tested is qualified, 1 if it is not, 2 if that could not be told.",
    )
    report.add_argument("folders", nargs="+", type=named.path, metavar="DIR", help="artifacts of one run or of many")
    report.add_argument("--out", type=named.path, required=True, metavar="DIR", help="where the report is written")
    report.set_defaults(run=_report, could_not=_COULD_NOT_TELL)

    history = commands.add_parser("history", help="keep a line per night", description="Keeps the result of each night.")
    history_commands = history.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add = history_commands.add_parser("add", help="add a report to the nights, once")
    add.add_argument("report", type=named.path, metavar="REPORT", help="a report's folder, or its JSON")
    add.add_argument(
        "--to", type=named.path, required=True, metavar="PLACE", help="a folder, or git:BRANCH, to which the night is committed"
    )
    add.set_defaults(run=_history_add)
    return parser


def _minutes(text: str) -> float:
    minutes = float(text)
    if not minutes > 0:
        raise argparse.ArgumentTypeError(f"{text} minutes are no time to run anything in")
    return minutes


def _pattern(text: str) -> str:
    # It is looked for anywhere in a test's name: these are in all of them.
    if not text.strip("*?"):
        raise argparse.ArgumentTypeError(f"{text!r} would excuse every test")
    return text


def _under_test_options() -> argparse.ArgumentParser:
    """Those that name the kiOS under test."""
    under_test = argparse.ArgumentParser(add_help=False)
    under_test.add_argument(
        "--kios-image", type=named.path, metavar="FILE", help="raw or qcow2 image (default: the reference image)"
    )
    under_test.add_argument("--kios-efi", type=named.path, metavar="FILE", help="instead of an image, kiOS's EFI binary")
    under_test.add_argument("--kios-modules", type=named.path, metavar="DIR", help="with it, kiOS's lib/modules")
    under_test.add_argument(
        "--kios-initrd", type=named.path, metavar="FILE", help="with both, for generation B, the user's initramfs"
    )
    under_test.add_argument("--generation", choices=("a", "b"), help="the generation of that kiOS")
    return under_test


def _node_options(under_test: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Those that pytest has too (see `options.add`)."""
    node = argparse.ArgumentParser(add_help=False, parents=[under_test])
    node.add_argument(
        "--container",
        type=named.path,
        action="append",
        default=[],
        metavar="FILE",
        help="OCI archive of an image that it lacks",
    )
    node.add_argument("--disk-size", type=named.word, metavar="SIZE", help="size of the node's disk (default: twice the image)")
    node.add_argument("--memory", default="1G", metavar="SIZE", help="memory of the node (default: %(default)s)")
    node.add_argument(
        "--sector-size", type=int, choices=(512, 4096), help="bytes in a block of its disk (default: the image's)"
    )
    node.add_argument("--cpus", type=int, default=1, metavar="N", help="its CPUs (default: %(default)s)")
    node.add_argument("--nic", default="virtio-net-pci", help="its network card (default: %(default)s)")
    node.add_argument("--firmware", choices=("newest", "system"), default="newest", help="as for pytest (default: %(default)s)")
    node.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto", help="what runs the guest")
    node.add_argument("--network", choices=("restricted", "open"), default="restricted", help="whether it may reach out")
    node.add_argument(
        "--qemu", type=named.word, metavar="PROGRAM", help="QEMU 10 or newer (default: the one in the cache, else the system's)"
    )
    node.add_argument("--image-cache", type=named.path, metavar="DIR", help="where the reference image's parts are kept")
    return node


# Each command imports what it needs itself, so that none waits for another's imports.


def _check(options: argparse.Namespace) -> int:
    from harness.lab import cache
    from harness.manifests import kubelet_rules, manifest
    from harness.manifests.finding import named

    try:
        folder = cache.folder(options.image_cache)
    except InputError as homeless:
        print(f"kios-e2e: {homeless}", file=sys.stderr)
    else:
        kubelet_rules.look_in(folder)
        if kubelet_rules.at_hand() is None and not options.no_build:
            _build_kubelet_rules(folder)
    readings = manifest.read_all(options.files)
    lacking = _lacking(readings, options.memory, options.cpus)
    for reading in readings:
        for finding in reading.findings:
            _say(finding.at(reading.file))
        if not reading.errors and not lacking:
            _say(f"{named(reading.file)}: ok")
    if lacking:
        _say(f"{', '.join(named(reading.file) for reading in readings)}: {lacking}")
    if its_own := kubelet_rules.at_hand():
        print(f"kios-e2e: the rules are kiOS's and those of kubelet {its_own.version}", file=sys.stderr)
    else:
        print("kios-e2e: the kubelet's own rules were not asked: `make check-tool` builds them", file=sys.stderr)
    return int(bool(lacking) or any(reading.errors for reading in readings))


def _lacking(readings: "Sequence[Reading]", memory: str | None, cpus: int | None) -> str:
    """Why a node of this size cannot run the pods, in words; empty if it can, or if no size was given."""
    from harness.lab.size import size_in_bytes
    from harness.manifests import demand

    sound = [reading.manifest() for reading in readings if reading.root and not reading.errors]
    found = [demand.lacking(sound, demand.MEMORY, size_in_bytes(memory))] if memory else []
    found += [demand.lacking(sound, demand.CPUS, cpus * 1000)] if cpus is not None else []
    return "; ".join(filter(None, found))


def _build_kubelet_rules(cache: Path) -> None:
    """Builds the program that has the kubelet's rules if there is Go; the build says if it fails."""
    import shutil

    from harness.lab import builder

    if shutil.which("go") is None and not os.access(cache / "go-1.24/bin/go", os.X_OK):
        return
    print("kios-e2e: building the kubelet's own rules, which takes a minute or two, once", file=sys.stderr)
    try:
        builder.build_kubelet_rules(cache)
    except HarnessError as failed:
        print(f"kios-e2e: {shown(str(failed))}", file=sys.stderr)


def _doctor(options: argparse.Namespace) -> int:
    from harness import doctor
    from harness.lab.wanted import Wanted

    lacking = False
    for condition in doctor.examine(Wanted.named_by(options)):
        _say(condition.line())
        lacking = lacking or bool(condition.cure)
    return int(lacking)


def _boot(options: argparse.Namespace) -> int:
    from harness import by_hand
    from harness.lab.wanted import Wanted

    return by_hand.boot(Wanted.named_by(options), options.manifest or [])


def _enter(options: argparse.Namespace) -> int:
    from harness.enter import Visit, enter
    from harness.lab.wanted import Wanted

    wanted = Wanted(
        image=options.kios_image,
        qemu=options.qemu,
        accelerator=options.accelerator,
        network=options.network,
        cache=options.image_cache,
    )
    return enter(Visit(options.bundle, wanted, sets_clock=not options.leave_clock, at=options.at))


def _qualify(options: argparse.Namespace) -> int:
    from harness.lab.generation import Generation
    from harness.qualification import matrix
    from harness.qualify import OUTPUTS, Wish, qualify
    from harness.shard import Shard
    from harness.watch import Watch

    if options.shard:
        Shard.parse(options.shard)
    outputs = {option: getattr(options, option.lstrip("-").replace("-", "_")) for option in OUTPUTS}
    wish = Wish(
        image=options.kios_image,
        out=options.out,
        tier=options.tier,
        matrix=options.matrix or matrix.DEFAULT,
        against=options.against,
        history=options.history,
        minutes=options.budget,
        excused=options.excuse,
        options=options.options,
        shard=options.shard or "",
        goes_on=options.resume,
        outputs={option: path for option, path in outputs.items() if path},
        command=options.command,
        generation=Generation(options.generation) if options.generation else None,
        **({"scenarios": options.scenarios.absolute()} if options.scenarios else {}),
    )
    answer = qualify(wish, Watch())
    return _tell(answer, options.out / "report/report.html")


def _report(options: argparse.Namespace) -> int:
    from harness.report import binder, page

    answer = binder.bind(options.folders, options.out, against=options.against, history=options.history, excused=options.excuse)
    return _tell(answer, options.out / page.NAME)


def _tell(answer: "Answer", page: Path) -> int:
    """Prints an answer and where its report is; returns the exit status."""
    _say(str(page))
    if answer.changes:
        _say(f"changed since the earlier report: {'; '.join(answer.changes)}")
    if answer.others:
        _say(f"the earlier report is of another host: {'; '.join(answer.others)}")
    _say(f"{answer.word}: {answer.why}")
    return answer.status


def _history_add(options: argparse.Namespace) -> int:
    from harness.history import night
    from harness.report import content, earlier

    is_new = night.add(content.night_of(earlier.of(options.report)), options.to)
    _say(f"{options.to}, {night.NAME}: {'one night more' if is_new else 'it is there already'}")
    return 0


def _say(line: str) -> None:
    """Prints a line; escapes what a terminal would act on or cannot show, such as a file name that is not UTF-8."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        print(shown(line).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        # Nobody reads any more, but the exit status still counts (Python's documentation, SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
