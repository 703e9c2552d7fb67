"""`kios-e2e enter`: resumes a failed node from its bundle, with a Python prompt."""

import code
import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from harness import by_hand, user_file
from harness.errors import HarnessError, InputError, NodeFailure
from harness.escape import shown
from harness.guest import clock
from harness.lab import builder, bundle, digest, host, place
from harness.lab import cache as cache_place
from harness.lab.bundle import Bundle, Surroundings
from harness.lab.expectation import milestones_of
from harness.lab.host import FIRMWARES, Host
from harness.lab.keeper import scratch
from harness.lab.maker import NodeMaker
from harness.lab.node import Folders, Node
from harness.lab.remains import Remains
from harness.lab.stock import Stock
from harness.lab.template import Facts, Templates
from harness.lab.wanted import Wanted
from harness.manifests.pods import StaticPod
from harness.storage import disk, overlay
from harness.storage.disk import Disk
from harness.verdict.timeline import API, BOOT, CONSOLE, SHELL

_AGENT_WITHIN = 10.0
_PROMPT = "failed node"


@dataclass(frozen=True)
class Visit:
    """A bundle to be entered. Of `wanted`, image, QEMU, accelerator, network and cache are used.

    `sets_clock` says whether the node's clock is set to this host's time. If `at` names a milestone, a node with the same pods
    is brought up before that milestone, instead of where the node failed.
    """

    file: Path
    wanted: Wanted
    sets_clock: bool = True
    at: str = ""


def enter(visit: Visit) -> int:
    """Resumes a failed node and stays until the user leaves, or until the script on stdin is done; returns the exit status."""
    cache_place.announce_to(_say)
    cache = cache_place.folder(visit.wanted.cache)
    with scratch("kios-e2e-", place.for_run().folder) as run_folder:
        told = bundle.unpack(visit.file, run_folder / "bundle", _say)
        if told.machine.network != visit.wanted.network:
            _say(f"the network of the failed node was {told.machine.network}, and is {visit.wanted.network} now")
        entered = told.on(visit.wanted.network)
        image = _image(entered, visit.wanted, cache)
        try:
            remains = entered.remains(run_folder / "bundle", image.path)
        except InputError as unfit:
            raise InputError(f"{visit.file} is no bundle of a failed node: {unfit}") from unfit
        here = _host(entered, visit.wanted, cache, run_folder)
        artifacts = run_folder / "artifacts"
        try:
            before = _before(visit.at, entered, image, here, cache, run_folder) if visit.at else None
            with before or _up(entered, remains, image, here, run_folder) as node:
                if visit.sets_clock:
                    _set_clock(node)
                _talk(entered, node, _names(entered, node, remains))
        except (HarnessError, NodeFailure) as failed:
            if str(artifacts) not in str(failed):
                raise
            raise type(failed)(str(failed).replace(str(artifacts), str(by_hand.kept(artifacts)))) from failed
    return 0


@contextlib.contextmanager
def _up(entered: Bundle, remains: Remains, image: Disk, here: Host, run_folder: Path) -> Iterator[Node]:
    """The node where it failed; if its memory cannot be resumed here, says so and boots its disk."""
    order = entered.order(image, entered.pods)
    why = entered.why_no_state or Surroundings.of(here).unlike(entered.surroundings)
    if not why:
        with closing(Node.enter(remains, order, here, _folders(run_folder, "node-1"))) as node:
            try:
                node.start()
            except HarnessError as refused:
                why = str(refused).partition("\n")[0]
            else:
                yield node
                return
    _say(f"the node's memory cannot be brought back ({why}): its disk is booted as it was left")
    with closing(Node.enter(remains.without_state(), order, here, _folders(run_folder, "node-2"))) as node:
        node.start()
        yield node


@contextlib.contextmanager
def _before(at: str, entered: Bundle, image: Disk, here: Host, cache: Path, run_folder: Path) -> Iterator[Node]:
    """A clone of the last template that had not passed a milestone; if there is none, a node that boots from its firmware."""
    known = [milestone.name for milestone in (*BOOT, CONSOLE, SHELL, API, *chain(*map(milestones_of, entered.pods)))]
    if at not in known:
        raise InputError(f"The failed node had no milestone {shown(at)}: name one of {', '.join(map(shown, known))}.")
    pods = {_fact(pod) for pod in (*entered.pods, entered.console_pod)}

    def suits(facts: Facts, passed: Sequence[str]) -> bool:
        alike = {**facts, "pods": ""} == {**entered.facts, "pods": ""}
        return alike and at not in passed and _facts(facts["pods"]) <= pods

    with Templates(cache / "templates", cache_place.LIMIT, run_folder, _say).latest(suits) as template:
        if template:
            given = [pod for pod in entered.pods if _fact(pod) in _facts(template.facts["pods"])]
            with closing(Node.clone(template, entered.order(image, given), here, _folders(run_folder, "node-1"))) as node:
                node.start()
                yield node
            return
        _say(f"no template is at hand that had not passed {at}: the node boots")
        stock = Stock(lambda: builder.reference_image(cache), (), cache / "stores")
        with closing(NodeMaker(here, run_folder, run_folder / "artifacts", lambda *_: entered.machine, stock)) as maker:
            node = maker.prepare(maker.order(image, entered.pods))
            node.start()
            yield node


def _fact(pod: StaticPod) -> tuple[str, str]:
    return pod.file, hashlib.sha256(pod.text()).hexdigest()


def _facts(pods: str) -> set[tuple[str, str]]:
    """The pods with which a template was made (see `maker.facts_of`)."""
    words = pods.split(" ")
    return set(zip(words[::2], words[1::2], strict=False))


def _folders(run_folder: Path, name: str) -> Folders:
    return Folders(run_folder / "nodes" / name, run_folder / "artifacts" / name)


def _host(entered: Bundle, wanted: Wanted, cache: Path, run_folder: Path) -> Host:
    """What runs the node here: with the same firmware and accelerator as there, if possible."""
    wish = entered.surroundings.accelerator if wanted.accelerator == "auto" else wanted.accelerator
    found = []
    for build in FIRMWARES:
        with contextlib.suppress(HarnessError):
            found.append(host.find(wanted.qemu, wish, cache, run_folder, _say, build))
            if digest.of(found[-1].firmware.code) == entered.surroundings.firmware:
                return found[-1]
    return found[0] if found else host.find(wanted.qemu, wanted.accelerator, cache, run_folder, _say)


def _image(entered: Bundle, wanted: Wanted, cache: Path) -> Disk:
    """The node's image: the one named, else where it was, else the reference image here; its hash must match."""
    if wanted.image:
        wanted.check()
        brought = wanted.bring(cache)
        assert brought is not None
        if digest.of(brought.disk.path) != entered.image_sha256:
            raise InputError(
                f"{wanted.image} is not the image of the failed node, which had the SHA-256 {entered.image_sha256}: name that."
            )
        return brought.disk
    for file in _candidates(entered, cache):
        if _has_digest(file, entered.image_sha256):
            return disk.open_image(file)
    raise InputError(
        f"The image of the failed node ({shown(entered.image.name)}, SHA-256 {entered.image_sha256}) is not at hand: "
        "name it with --kios-image FILE."
    )


def _has_digest(file: Path, sha256: str) -> bool:
    """Whether a file has this SHA-256; one that is not there, or that this user may not read, has none."""
    try:
        user_file.head(file)
        return digest.of(file) == sha256
    except (InputError, OSError):
        return False


def _candidates(entered: Bundle, cache: Path) -> Iterator[Path]:
    yield entered.image
    with contextlib.suppress(HarnessError):
        folder = Path(builder.ask("find", "--cache", cache))
        yield from (folder / "kios.img", folder / "kios-4k.img")


def _set_clock(node: Node) -> None:
    """Sets the clock as on a clone, if the failed node still takes commands."""
    frozen = node.boot.frozen
    if (
        frozen is None
        or not frozen.keeps_its_clock
        or not {SHELL.name, CONSOLE.name} & {entry.name for entry in frozen.milestones}
    ):
        return
    try:
        node.until(lambda: node.boot.agent.answers, "an answer of the agent's", _AGENT_WITHIN)
        clock.set_to_hosts(node.boot.run)
    except (HarnessError, NodeFailure) as silent:
        _say(f"the node's clock is left as it was: {str(silent).partition(chr(10))[0]}")


class _Names(dict[str, object]):
    """The names at the prompt, some of which are made when they are first used."""

    def __init__(self, there: Mapping[str, object], later: Mapping[str, Callable[[], object]]) -> None:
        super().__init__(there)
        self._later = later

    def __missing__(self, name: str) -> object:
        if name not in self._later:
            raise KeyError(name)
        self[name] = self._later[name]()
        return self[name]


def _names(entered: Bundle, node: Node, remains: Remains) -> _Names:
    def left_disk() -> Disk:
        raw = remains.folder / "disk.raw"
        overlay.flatten(remains.disk, raw)
        return Disk.read(raw, entered.machine.sector_size)

    def console() -> None:
        by_hand.sit_down(node, sys.stdin.buffer, sys.stdout.buffer)

    def screen() -> None:
        print(shown(node.boot.screen()))

    there = {"node": node, "wire": node.wire, "console": console, "screen": screen}
    lacking = {pod.file: pod for pod in entered.pods if pod not in node.pods_given}
    also = {
        "PurePosixPath": PurePosixPath,
        "pods": lacking,
        "logs": remains.folder / "artifacts",
        "bundle": entered,
        "__name__": "__console__",
    }
    return _Names({**there, **also}, {"disk": left_disk})


class _Prompt(code.InteractiveConsole):
    """Escapes the words of errors, which may be the node's."""

    def write(self, data: str) -> None:
        super().write(shown(data))


def _talk(entered: Bundle, node: Node, names: _Names) -> None:
    if not sys.stdin.isatty():
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)  # The user's own script.
        return
    # For editing and history.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    sys.ps1 = f"{_PROMPT} >>> "
    greeting = _greeting(entered, node, names)
    _Prompt(names).interact(greeting, "The node has ended; nothing of it is left.")


def _greeting(entered: Bundle, node: Node, names: Mapping[str, object]) -> str:
    failure = entered.failure
    lacking = names["pods"]
    assert isinstance(lacking, dict)
    reached = ", ".join(entry.name for entry in entered.milestones) or "nothing"
    return "\n".join(
        [
            shown(f"{failure.test}, {entered.node}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(entered.at))}:"),
            shown(f"  {failure.sentence}"),
            shown(f"  reached: {reached}"),
            *by_hand.ways_in(node),
            "node    as in a scenario: node.run('ps').text, node.pods(), node.logs('node', 'modprobe')",
            "wire    its cable: wire.unplug(), wire.drop(...)",
            "disk    its disk as it was when it failed: disk.folder(PurePosixPath('/meta/etc'))",
            "console()   its serial console, Ctrl-] comes back here    screen()   what is on its screen",
            f"logs    what its run left, as a path: {names['logs']}",
            *([f"pods    those it has yet to be given: {shown(', '.join(lacking))}; node.add(pods[...])"] if lacking else []),
            "Ctrl-D ends the node.",
        ]
    )


def _say(words: str) -> None:
    print(f"kios-e2e: {shown(words)}", file=sys.stderr, flush=True)
