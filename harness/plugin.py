"""The pytest plugin: options, fixtures named by what they give, and the artifacts of every node."""

import contextlib
import functools
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from io import FileIO
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.lab import brought as images
from harness.lab import builder
from harness.lab import host as hosts
from harness.lab.brought import Brought
from harness.lab.host import Host
from harness.lab.keeper import Keeper
from harness.lab.maker import NewNode, NodeMaker
from harness.lab.node import Node
from harness.lab.stock import Stock
from harness.lab.template import Templates
from harness.shard import Shard
from harness.storage import disk
from harness.storage.disk import Disk
from harness.vm.accelerator import WISHES
from harness.vm.machine import EARLY_CONSOLE, Machine

# A template of a node with 1 GiB of memory takes half of it on the disk.
_TEMPLATES_LIMIT = 8 << 30
_NODES = pytest.StashKey[list[Node]]()
_FAILED = pytest.StashKey[bool]()
_TOLD = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the harness's options."""
    group = parser.getgroup("kios", "kiOS end-to-end harness")
    group.addoption(
        "--kios-image",
        type=Path,
        metavar="FILE",
        help="raw or qcow2 disk image to test; it is only read (default: the reference image, built if missing)",
    )
    group.addoption(
        "--kios-efi", type=Path, metavar="FILE", help="in place of an image, kiOS's EFI binary, with --kios-modules"
    )
    group.addoption("--kios-modules", type=Path, metavar="DIR", help="kiOS's lib/modules, for the disk that is made of both")
    group.addoption(
        "--container",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="OCI archive of a container image that manifests name and the image lacks; may be given more than once",
    )
    group.addoption("--image-cache", type=Path, metavar="DIR", help="where the reference image's parts are kept")
    group.addoption(
        "--disk-size",
        metavar="SIZE",
        help="size of a node's disk where the scenario names none, as 2G (default: twice the image)",
    )
    group.addoption("--memory", default="1G", metavar="SIZE", help="memory of a node (default: %(default)s)")
    group.addoption(
        "--accelerator",
        choices=WISHES,
        default="auto",
        help="what runs the guest's instructions (default: what is proven to work)",
    )
    group.addoption("--qemu", metavar="PROGRAM", help="QEMU 10 or newer (default: the one in the cache, else the system's)")
    group.addoption("--cold", action="store_true", help="boot every node instead of cloning one that was booted once")
    group.addoption("--shard", metavar="K/N", help="run the K-th of N parts of the tests; together the parts are all of them")
    group.addoption(
        "--artifacts",
        type=Path,
        default=Path("artifacts"),
        metavar="DIR",
        help="logs of every node, by test (default: %(default)s)",
    )
    group.addoption(
        "--page", type=Path, metavar="FILE", help="kiOS's documentation page on static pods, to be run as it is written"
    )
    group.addoption(
        "--keep-on-failure",
        action="store_true",
        help="keep a failed test's nodes up, with the ways in and their consoles on this terminal; then keep their disks",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marks, and refuses options that no node could be made from before anything is collected."""
    config.addinivalue_line("markers", "needs_module(*names): the image under test must have these kernel modules as modules")
    config.addinivalue_line("markers", "cold: this test is about booting: its nodes are never clones")
    try:
        if bool(config.getoption("kios_efi")) != bool(config.getoption("kios_modules")):
            raise HarnessError("--kios-efi and --kios-modules belong together: kiOS's Bootx64.efi and its lib/modules.")
        if config.getoption("kios_efi") and config.getoption("kios_image"):
            raise HarnessError(
                "--kios-image is a whole image, --kios-efi and --kios-modules are two parts of one: give either."
            )
        if config.getoption("kios_image"):
            images.check_file(config.getoption("kios_image"))
        if config.getoption("kios_efi"):
            images.check_outputs(config.getoption("kios_efi"), config.getoption("kios_modules"))
        for named in (*config.getoption("container"), *filter(None, [config.getoption("page")])):
            if not named.is_file():
                raise HarnessError(f"There is no file {named}.")
        if config.getoption("shard"):
            Shard.parse(config.getoption("shard"))
        Machine(_bytes(config.getoption("disk_size") or "1G"), memory=_bytes(config.getoption("memory")))
    except HarnessError as refused:
        raise pytest.UsageError(str(refused)) from refused


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests of other shards out."""
    if config.getoption("shard"):
        shard = Shard.parse(config.getoption("shard"))
        config.hook.pytest_deselected(items=[item for item in items if not shard.has(item.nodeid)])
        items[:] = [item for item in items if shard.has(item.nodeid)]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Ends a test whose node cannot be had with the reason alone: where in the harness it was found helps nobody."""
    try:
        return (yield)
    except HarnessError as impossible:
        reason = f"the harness cannot make this node: {impossible}"
    pytest.fail(reason, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes a failure for the fixtures' end, and puts the way to the artifacts into its report."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    for node in item.stash.get(_NODES, []):
        report.sections.append((f"artifacts of {node.artifacts.name}", str(node.artifacts)))
        if node.was_started:
            passed = ", ".join(f"{entry.name} {entry.after:.1f} s" for entry in node.timeline())
            report.sections.append((f"milestones of {node.artifacts.name}", passed))
    return report


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """A folder for all that a run makes and nobody needs behind it; it goes even when pytest is killed."""
    folder = Path(tempfile.mkdtemp(prefix="kios-e2e-"))
    keeper = Keeper.start(folder)
    yield folder
    keeper.close()


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config) -> Host:
    """What runs nodes here, proven to work before the first of them boots."""
    found = hosts.find(pytestconfig.getoption("qemu"), pytestconfig.getoption("accelerator"), _cache(pytestconfig))
    chosen = found.accelerator
    _tell(pytestconfig, f"accelerator: {chosen.name} ({chosen.reason}); deadlines x {chosen.slowness:.2f}")
    return found


@pytest.fixture(scope="session")
def node_image(pytestconfig: pytest.Config) -> Path:
    """The folder of the reference node image, built now if it is missing."""
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    # A first build takes many minutes, and says what it does.
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        return builder.reference_image(_cache(pytestconfig))


@pytest.fixture(scope="session")
def brought(pytestconfig: pytest.Config) -> Brought | None:
    """What the user brought to test; None for the reference image."""
    cache, named, efi = _cache(pytestconfig), pytestconfig.getoption("kios_image"), pytestconfig.getoption("kios_efi")
    if not (named or efi):
        return None
    found = images.of_file(named, cache) if named else images.of_outputs(efi, pytestconfig.getoption("kios_modules"), cache)
    for name, digest in found.digests.items():
        _tell(pytestconfig, f"under test: {name}, sha256 {digest}")
    return found


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, brought: Brought | None) -> Disk:
    """The disk image under test."""
    return brought.disk if brought else disk.open_image(request.getfixturevalue("node_image") / "kios.img")


@pytest.fixture(scope="session")
def image_4k(request: pytest.FixtureRequest, brought: Brought | None) -> Disk:
    """The reference image made for a disk of 4096-byte blocks; skips where the user brought an image."""
    if brought:
        pytest.skip("what is under test exists for one block size only")
    return disk.open_image(request.getfixturevalue("node_image") / "kios-4k.img")


@pytest.fixture(scope="session")
def page(pytestconfig: pytest.Config) -> Path:
    """The documentation page to run."""
    named: Path | None = pytestconfig.getoption("page")
    if named is None:
        pytest.skip("no --page FILE was given")
    return named.absolute()


@pytest.fixture(autouse=True)
def _supported(request: pytest.FixtureRequest) -> None:
    """Skips what the image under test cannot support, with the reason."""
    for mark in request.node.iter_markers("needs_module"):
        lacking = [name for name in mark.args if not request.getfixturevalue("image").has_module(name)]
        if lacking:
            pytest.skip(f"the image under test has no module {', '.join(lacking)} on its data partition")


@pytest.fixture
def artifacts(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Path:
    """An empty folder for what is left of this test."""
    root: Path = pytestconfig.getoption("artifacts").absolute()
    folder = root / request.path.stem / re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def stock(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Stock:
    """Container images at hand for nodes whose disk lacks them: the reference image's, and those named with --container."""
    named = tuple(file.absolute() for file in pytestconfig.getoption("container"))
    return Stock(lambda: request.getfixturevalue("node_image"), named, _cache(pytestconfig) / "stores")


@pytest.fixture
def makers(
    request: pytest.FixtureRequest,
    pytestconfig: pytest.Config,
    host: Host,
    run_folder: Path,
    artifacts: Path,
    stock: Stock,
    brought: Brought | None,
) -> Iterator[NodeMaker]:
    """Makes the nodes of one test, and ends them with it."""
    for name, digest in (brought.digests if brought else {}).items():
        request.node.user_properties.append((f"sha256 of {name}", digest))
    maker = NodeMaker(host, run_folder, artifacts, _machine(pytestconfig), stock)
    request.node.stash[_NODES] = maker.nodes
    with contextlib.closing(maker):
        yield maker
        if request.node.stash.get(_FAILED, False) and pytestconfig.getoption("keep_on_failure"):
            _keep(maker, pytestconfig)


def _keep(maker: NodeMaker, config: pytest.Config) -> None:
    """Has whoever sits at the terminal visit the nodes that run; then, and where nobody does, their disks are kept."""
    from harness import by_hand

    seat, capture = _seat(config), config.pluginmanager.get_plugin("capturemanager")
    if seat and capture:
        with seat, capture.global_and_fixture_disabled():
            for node in maker.nodes:
                if node.was_started and node.boot.process.running():
                    by_hand.visit(node, seat, seat)
    else:
        _tell(config, "--keep-on-failure: there is no terminal at which to visit a node; its disk is with its artifacts")
    maker.keep_disks()


def _seat(config: pytest.Config) -> FileIO | None:
    """The terminal, opened anew: pytest has put something else in the place of stdin. Workers of pytest-xdist share one."""
    if hasattr(config, "workerinput"):
        return None
    try:
        return Path("/dev/tty").open("r+b", buffering=0)
    except OSError:
        return None


@pytest.fixture
def new_node(makers: NodeMaker) -> NewNode:
    """Makes nodes that are prepared and not yet started; each ends with the test.

    See `maker.NewNode` for the arguments.
    """
    return makers.making(makers.prepare)


@pytest.fixture
def ready_node(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, makers: NodeMaker, host: Host, run_folder: Path
) -> NewNode:
    """Makes nodes on which every pod runs, with the arguments of `new_node`: clones of one that was booted once.

    With `--cold`, the mark `cold`, or a QEMU that cannot freeze a node, each is booted.
    """
    why_cold = _why_cold(request, pytestconfig, host)
    if why_cold:
        _tell(pytestconfig, f"every node is booted cold: {why_cold}")
        return makers.making(makers.boot)
    templates = Templates(_cache(pytestconfig) / "templates", _TEMPLATES_LIMIT, run_folder)
    return makers.making(functools.partial(makers.clone, templates))


def _tell(config: pytest.Config, words: str) -> None:
    """Has a line stand once in the run's summary."""
    told = config.stash.setdefault(_TOLD, [])
    if words not in told:
        told.append(words)


@pytest.hookimpl
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Sends what a worker of pytest-xdist has to tell to the process that has the terminal."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["kios-e2e"] = session.config.stash.get(_TOLD, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes what a worker had to tell."""
    for words in getattr(node, "workeroutput", {}).get("kios-e2e", []):
        _tell(node.config, words)  # type: ignore[attr-defined] # xdist's WorkerController has it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says on what the nodes ran."""
    for words in config.stash.get(_TOLD, []):
        terminalreporter.write_line(words)


def _why_cold(request: pytest.FixtureRequest, config: pytest.Config, host: Host) -> str:
    if config.getoption("cold"):
        return "asked for with --cold"
    if request.node.get_closest_marker("cold"):
        return "this test is about booting"
    if not host.qemu.can_freeze:
        return f"QEMU {'.'.join(map(str, host.qemu.version))} cannot freeze an NVMe disk, 11.1 can (setup/qemu.sh)"
    return ""


def _machine(config: pytest.Config) -> Callable[[Disk, int | None], Machine]:
    """What a node's machine is, by its image and the disk size that the scenario asks for."""

    def machine(image: Disk, disk_size: int | None) -> Machine:
        return Machine(
            disk_size=disk_size or _disk_size(config, image),
            sector_size=image.table.sector_size,
            memory=_bytes(config.getoption("memory")),
            kernel_arguments=EARLY_CONSOLE,
        )

    return machine


def _cache(config: pytest.Config) -> Path:
    return builder.cache_folder(config.getoption("image_cache"))


def _disk_size(config: pytest.Config, image: Disk) -> int:
    named = config.getoption("disk_size")
    return _bytes(named) if named else 2 * image.size


def _bytes(size: str) -> int:
    """`512M`, `2G` or plain bytes to bytes."""
    match = re.fullmatch(r"(\d+)([KMGT]?)", size.upper())
    if match is None:
        raise HarnessError(f"{size!r} is no size: write bytes, or a number with K, M, G or T behind it.")
    return int(match[1]) << (10 * " KMGT".index(match[2] or " "))
