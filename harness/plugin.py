"""The pytest plugin: fixtures that give nodes and what they are made of, and the artifacts of every node."""

import contextlib
import functools
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest

from harness import aftermath, options, pace, properties, summary, tier, under_test
from harness.aftermath import Bundling
from harness.errors import HarnessError, InputError, NodeFailure, Party
from harness.guest import versions
from harness.journal.entry import Fact, Figure
from harness.lab import cache, place
from harness.lab import host as hosts
from harness.lab.artifacts import OneTest, emptied
from harness.lab.brought import Brought
from harness.lab.bundle import Failure
from harness.lab.capacity import capacity
from harness.lab.failed_boots import FailedBoots, Unnoted
from harness.lab.host import Host
from harness.lab.keeper import end_with_parent, scratch
from harness.lab.maker import NewNode, NodeMaker, Wishes
from harness.lab.node import Node
from harness.lab.order import Order
from harness.lab.stock import Stock
from harness.lab.template import Templates
from harness.manifests import kubelet_rules
from harness.options import cache_of, wanted
from harness.pace import Pace
from harness.progress import Progress, to_terminal
from harness.repeats import Repeats
from harness.scribe import SCRIBE, Scribe
from harness.shard import Shard
from harness.summary import blamed, describe, tell

_PROGRESS = pytest.StashKey[Progress]()
_NODES = pytest.StashKey[list[Node]]()
# A failed test's failure, and who is at fault.
_FAILED = pytest.StashKey[tuple[Failure, Party]]()
_VERSIONS_KNOWN = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the harness's options."""
    options.add(parser)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """How many workers `-n auto` starts; pytest-xdist asks before it configures. Its own variable overrides this."""
    return None if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else pace.workers(capacity())


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marks, and refuses options from which no node could be made before anything is collected."""
    config.addinivalue_line("markers", "needs_module(*names): the image under test must have these kernel modules as modules")
    config.addinivalue_line(
        "markers", "generation(*names, cannot=): the generations of kiOS to which it applies; what others cannot keep of it"
    )
    config.addinivalue_line("markers", f"{tier.MARK}: this test is of the tier presubmit too, which has few")
    config.addinivalue_line("markers", "cold: this test is about booting: its nodes are never clones")
    config.addinivalue_line(
        "markers",
        "machine(nic=, cpus=, memory=, disk_size=, kernel_arguments=): what this test's nodes have unless it says otherwise",
    )
    options.check(config)
    config.pluginmanager.register(summary)
    config.pluginmanager.register(under_test)
    config.stash[SCRIBE] = Scribe(config)
    config.pluginmanager.register(config.stash[SCRIBE])
    # Without a home there is no cache; a test that asks for a node fails then, and no other.
    with contextlib.suppress(InputError):
        kubelet_rules.look_in(cache_of(config))
        config.pluginmanager.register(Pace(config, cache_of(config) / "durations.json"))
    if (times := config.getoption("repeat")) > 1:
        config.pluginmanager.register(Repeats(times, config.stash[SCRIBE]))
    progress = config.stash[_PROGRESS] = Progress(to_terminal(), lambda: config.get_verbosity() > 0)
    cache.announce_to(progress.say)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that the tier lacks, and those of other shards."""
    scribe = config.stash[SCRIBE]
    if left_out := tier.left_out_by(config.getoption("tier"), items):
        scribe.leave_out(left_out, config.getoption("tier"))
        _deselect(config, items, left_out)
    if config.getoption("shard"):
        shard = Shard.parse(config.getoption("shard"))
        others = [item for item in items if not shard.has(item.nodeid)]
        scribe.leave_to_other_shards(others)
        _deselect(config, items, others)


def _deselect(config: pytest.Config, items: list[pytest.Item], others: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=others)
    gone = set(others)
    items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps a failure for the end of the fixtures, and adds what the test's nodes did and left to its report."""
    made = yield
    if made.failed:
        raised = call.excinfo.value if call.excinfo else None
        failure = Failure(item.nodeid, str(raised).strip() or "it failed")
        item.stash.setdefault(_FAILED, (failure, blamed(raised, made.when)))
    if made.when == "call":
        for node in item.stash.get(_NODES, []):
            if made.failed and node.started is not None:
                # For the page of a report. Not every node has a screen, and the failure is reported anyway.
                with contextlib.suppress(HarnessError, OSError):
                    node.boot.screen()
            properties.tell_of(node, item, made)
        made.user_properties = list(item.user_properties)
    return made


def _why_void(nodes: list[Node]) -> str:
    """That a node's disk is full, or its QEMU was killed, explains whatever else was found on it."""
    return next(filter(None, (node.why_void for node in nodes)), "")


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A scratch folder of the run; it is removed even if pytest is killed."""
    if hasattr(pytestconfig, "workerinput"):
        end_with_parent()
    chosen = place.for_run()
    if chosen.words:
        tell(pytestconfig, chosen.words)
    with scratch("kios-e2e-", chosen.folder) as folder:
        yield folder


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config, run_folder: Path) -> Host:
    """What runs nodes here, proven to work before the first node boots."""
    found = hosts.find(
        pytestconfig.getoption("qemu"),
        pytestconfig.getoption("accelerator"),
        cache_of(pytestconfig),
        run_folder,
        pytestconfig.stash[_PROGRESS].say,
        pytestconfig.getoption("firmware"),
    )
    tell(pytestconfig, "; ".join(f"{name}: {value}" for name, value in found.facts().items()))
    for name, value in found.facts().items():
        pytestconfig.stash[SCRIBE].note(Fact("host", name, value))
    return found


@pytest.fixture(scope="session")
def dimensions(pytestconfig: pytest.Config) -> Mapping[str, str]:
    """What this run's options choose of a machine, as `{"nic": "e1000e"}`; a test may override some."""
    return options.dimensions(pytestconfig)


@pytest.fixture(scope="session")
def artifacts_root(pytestconfig: pytest.Config) -> Path:
    """The folder of this run's artifacts, which its workers share and to which no other run writes."""
    root = pytestconfig.stash[SCRIBE].root()
    if root != (wanted := pytestconfig.getoption("artifacts").absolute()):
        tell(pytestconfig, f"artifacts are in {root}: another run writes to {wanted}")
    return root


@pytest.fixture
def artifacts(request: pytest.FixtureRequest, pytestconfig: pytest.Config, artifacts_root: Path) -> Path:
    """An empty folder for this test's artifacts."""
    tests = [OneTest(item.path, item.name) for item in request.session.items]
    folder = emptied(artifacts_root, OneTest(request.path, request.node.name), tests)
    pytestconfig.stash[SCRIBE].leave_artifacts(request.node.nodeid, folder)
    return folder


@pytest.fixture
def stock(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Stock:
    """Container images for nodes whose disk lacks them: the reference image's, and those named with --container."""
    named = wanted(pytestconfig).archives
    return Stock(lambda: request.getfixturevalue("node_image"), named, cache_of(pytestconfig) / "stores")


@pytest.fixture(scope="session")
def failed_boots(pytestconfig: pytest.Config, artifacts_root: Path) -> FailedBoots:
    """What did not come up in this run, in any of its processes."""
    if pytestconfig.getoption("boot_anyway"):
        return Unnoted()
    return FailedBoots(artifacts_root / ".failed-boots", pytestconfig.stash[SCRIBE].run)


@pytest.fixture
def node_maker(
    request: pytest.FixtureRequest,
    pytestconfig: pytest.Config,
    host: Host,
    run_folder: Path,
    artifacts: Path,
    stock: Stock,
    brought: Brought | None,
    failed_boots: FailedBoots,
) -> Iterator[NodeMaker]:
    """Makes the nodes of one test, and ends them when the test ends."""
    for name, digest in {**(brought.digests if brought else {}), **options.tested_beside(pytestconfig)}.items():
        describe(request.node, f"sha256 of {name}", digest)
    for name, value in host.facts().items():
        describe(request.node, name, value)
    initramfs, built_in = (brought.initramfs, brought.built_in) if brought else (None, None)
    machine, own_pods = wanted(pytestconfig).machine, pytestconfig.getoption("own_pods")
    maker = NodeMaker(host, run_folder, artifacts, machine, stock, failed_boots, initramfs, built_in, own_pods)
    request.node.stash[_NODES] = maker.nodes
    request.node.stash[summary.VOID] = lambda: _why_void(maker.nodes)
    progress, scribe = pytestconfig.stash[_PROGRESS], pytestconfig.stash[SCRIBE]
    with contextlib.ExitStack() as ending, contextlib.closing(maker), progress.watching(request.node.name, maker.nodes):
        ending.callback(scribe.note_boots, request.node.nodeid, maker.nodes)
        yield maker
        failure, at_fault = request.node.stash.get(_FAILED, (None, None))
        if failure:
            with contextlib.suppress(OSError):
                maker.keep_logs()
            if pytestconfig.getoption("keep_on_failure"):
                aftermath.visit(maker, f"{failure.test}: {failure.sentence}", pytestconfig)
            elif (limit := options.bundle_limit(pytestconfig)) and at_fault is Party.NODE and not _why_void(maker.nodes):
                how = Bundling(limit, scribe.root(), run_folder, host, progress.say)
                aftermath.freeze(maker.nodes, failure, how, pytestconfig)
        elif not pytestconfig.stash.get(_VERSIONS_KNOWN, False):
            pytestconfig.stash[_VERSIONS_KNOWN] = _note_versions(maker.nodes, pytestconfig)


def _note_versions(nodes: list[Node], config: pytest.Config) -> bool:
    """Records what runs in the image under test, and warns of manifests checked by another kubelet's rules.

    Returns whether a node could be asked.
    """
    node = next((node for node in nodes if node.started is not None and node.boot.agent.answers), None)
    if node is None:
        return False
    try:
        found = versions.of(node.boot.run)
    except (HarnessError, NodeFailure):
        return False
    for part, version in found.items():
        config.stash[SCRIBE].note(Fact("inside", part, version))
    rules = kubelet_rules.at_hand()
    if rules and found.get("kubelet", rules.version) != rules.version:
        tell(config, f"the kubelet under test is {found['kubelet']}; manifests were checked by the rules of {rules.version}")
    return True


@pytest.fixture
def figure(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Callable[[str, float, str], None]:
    """Records a quantity that was measured in a node, with its unit, or counted; reports compare it with an earlier one's."""

    def note(name: str, value: float, unit: str = "") -> None:
        pytestconfig.stash[SCRIBE].note(Figure(request.node.nodeid, name, value, unit))

    return note


@pytest.fixture
def new_node(request: pytest.FixtureRequest, node_maker: NodeMaker) -> NewNode:
    """Makes nodes that are prepared but not started; each ends with the test.

    See `maker.NewNode` for the arguments.
    """
    return _new_node(request, node_maker, node_maker.prepare)


@pytest.fixture
def ready_node(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, node_maker: NodeMaker, host: Host, run_folder: Path
) -> NewNode:
    """Makes nodes on which every pod runs, with the arguments of `new_node`: clones of one that was booted once.

    With `--cold`, the mark `cold`, or a QEMU that cannot freeze a node, each node is booted.
    """
    why_cold = _why_cold(request, pytestconfig, host)
    if why_cold:
        tell(pytestconfig, f"every node is booted cold: {why_cold}")
        return _new_node(request, node_maker, node_maker.boot)
    say = pytestconfig.stash[_PROGRESS].say
    templates = Templates(cache_of(pytestconfig) / "templates", cache.LIMIT, run_folder, say)
    return _new_node(request, node_maker, functools.partial(node_maker.clone, templates))


def _new_node(request: pytest.FixtureRequest, maker: NodeMaker, make: Callable[[Order], Node]) -> NewNode:
    mark = request.node.get_closest_marker("machine")
    try:
        if mark and mark.args:
            raise TypeError(f"{mark.args[0]!r} has no name")
        wishes = Wishes(**mark.kwargs) if mark else Wishes()
    except TypeError as unknown:
        raise InputError(f"The mark `machine` takes {', '.join(vars(Wishes()))} by name: {unknown}.") from unknown
    return NewNode(maker, make, lambda: request.getfixturevalue("image"), wishes)


def _why_cold(request: pytest.FixtureRequest, config: pytest.Config, host: Host) -> str:
    if config.getoption("cold"):
        return "asked for with --cold"
    if request.node.get_closest_marker("cold"):
        return "this test is about booting"
    if not host.qemu.can_freeze:
        return f"QEMU {'.'.join(map(str, host.qemu.version))} cannot freeze an NVMe disk, 11.1 can (setup/qemu.sh)"
    return ""
