"""Makes the nodes of one test: prepared, booted, or cloned from a template."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.errors import InputError
from harness.guest.credentials import Credentials
from harness.lab import digest, processor
from harness.lab.failed_boots import FailedBoots, Unnoted
from harness.lab.host import Host
from harness.lab.initramfs import Initramfs
from harness.lab.node import Folders, Node
from harness.lab.order import Order
from harness.lab.own_files import OwnPods
from harness.lab.size import size_in_bytes
from harness.lab.stock import Stock
from harness.lab.template import Template, Templates
from harness.manifests.pods import StaticPod, load, refuse_clashes, refuse_too_large, warn_of_short_names
from harness.storage.disk import Disk
from harness.storage.overlay import Entry, Tree
from harness.verdict.timeline import Passed
from harness.vm.machine import Machine
from harness.wire.site import Site

_HERE = Path(__file__).parent
_CONSOLE_POD = _HERE / "kios-e2e.yaml"
# A pod of this name owns the console, as on kiOS's page: the harness's own shell would type over it.
_TAKES_THE_CONSOLE = "console"
# The folder of artifacts of a node that was booted to be frozen.
_TEMPLATE = "template"

Pods = Sequence[StaticPod | Path | str]
# By their absolute paths on the data partition, as /meta/etc/hosts.
Files = Mapping[PurePosixPath, Entry] | Mapping[str, Entry]


@dataclass(frozen=True)
class Wishes:
    """What a scenario wants of a machine, overriding the run's options; None changes nothing.

    Sizes are bytes or words such as `4G`. `kernel_arguments` replace those that put the kernel's log on the serial port;
    with none, the image boots as it does for a user.
    """

    disk_size: int | str | None = None
    memory: int | str | None = None
    nic: str | None = None
    cpus: int | None = None
    kernel_arguments: Sequence[str] | None = None

    def over(self, others: "Wishes") -> "Wishes":
        """These, and the others' where these are None."""
        return replace(others, **{name: value for name, value in vars(self).items() if value is not None})

    def applied_to(self, machine: Machine) -> Machine:
        """The machine with these wishes; raises InputError for one on which no node could run."""
        wanted = {name: value for name, value in vars(self).items() if value is not None}
        for size in wanted.keys() & {"disk_size", "memory"}:
            wanted[size] = size_in_bytes(wanted[size])
        if self.kernel_arguments is not None:
            wanted["kernel_arguments"] = tuple(self.kernel_arguments)
        return replace(machine, **wanted)


class NodeMaker:
    """Makes nodes and remembers them, so that all of them end with the test."""

    def __init__(
        self,
        host: Host,
        run_folder: Path,
        artifacts: Path,
        machine: Callable[[Disk, int | None], Machine],
        stock: Stock,
        failed_boots: FailedBoots | None = None,
        initramfs: Initramfs | None = None,
        built_in: Mapping[PurePosixPath, bytes] | None = None,
        own_pods: OwnPods = OwnPods.RUN,
    ) -> None:
        """Without `failed_boots`, nodes are booted even if the same did not come up for another test.

        With an `initramfs`, which is the user's, the kiOS under test is of generation B. `built_in` are the files inside its
        EFI binary; `own_pods` says whether the image's own pods run.
        """
        self.nodes: list[Node] = []
        self._host, self._run_folder, self._artifacts, self._machine = host, run_folder, artifacts, machine
        self._stock, self._initramfs, self._built_in = stock, initramfs, {} if built_in is None else built_in
        self._own_pods, self._failed_boots = own_pods, failed_boots or Unnoted()
        self._in_use = ExitStack()
        self._templates: list[Template] = []

    def order(self, image: Disk, pods: Pods, files: Files | None = None, wishes: Wishes | None = None) -> Order:
        """The complete order for a node: see `NewNode` for the arguments. Raises InputError if the image has changed."""
        if image.change:
            raise InputError(f"{image.change} in the middle of the run, which would tell of two images: run it again.")
        machine = (wishes or Wishes()).applied_to(self._machine(image, None))
        if isinstance(pods, str | Path | StaticPod):
            raise InputError(f"pods={pods!r:.100} is one manifest: give a list.")
        loaded = [pod if isinstance(pod, StaticPod) else load(pod) for pod in pods]
        console_pod = load(_CONSOLE_POD)
        if _TAKES_THE_CONSOLE in [pod.name for pod in loaded]:
            console_pod = console_pod.with_args("console", ["agent"])
        all_pods = [console_pod, *loaded]
        refuse_clashes(all_pods)
        warn_of_short_names(loaded)
        placed = _placed(files or {})
        refuse_too_large(all_pods, machine.memory, machine.cpus)
        names = [name for pod in all_pods for name in pod.images]
        supplies = (
            self._stock.supply_beside(self._initramfs, names, self._in_use)
            if self._initramfs
            else self._stock.supply(image, names, self._in_use)
        )
        if not loaded and any(map(supplies.serves, console_pod.images)):
            raise InputError(
                f"The data partition of {image.path} has no room for the harness's own container, and a node without pods has "
                "no network to get it by: take an image with a larger one, or give the node a pod that gets a lease."
            )
        return Order(
            image,
            machine,
            loaded,
            console_pod,
            {**supplies.files, **placed},
            supplies.registry,
            self._initramfs,
            supplies.archive,
            supplies.images,
            self._built_in,
            self._own_pods,
        )

    def prepare(self, order: Order) -> Node:
        """A node that has yet to be started."""
        place = self._next_place()
        return self._prepared(order, Credentials.make(place.folder.parent), place)

    def boot(self, order: Order) -> Node:
        """A node on which every pod runs, booted for this test."""
        node = self.prepare(order)
        node.start()
        node.wait_until_ready()
        return node

    def clone(self, templates: Templates, order: Order) -> Node:
        """A node on which every pod runs, cloned from one that was booted for all who order the same."""

        def make(folder: Path, credentials: Credentials) -> Sequence[Passed]:
            place = self._place(self._numbered(_TEMPLATE))
            node = self._prepared(order, credentials, place)
            node.start_freezable(folder / "memory")
            node.wait_until_ready()
            milestones = node.freeze(folder / "state", folder / "dhcp.pcap")
            shutil.move(node.overlay, folder / "disk.qcow2")
            shutil.move(node.variables, folder / "variables.fd")
            shutil.copytree(place.artifacts, folder / "boot", ignore=shutil.ignore_patterns("*.pcapng", "*.ppm", "*.jsonl"))
            return milestones

        template = self._in_use.enter_context(templates.get(facts_of(order, self._host), make))
        self._templates.append(template)
        node = self._remember(Node.clone(template, order, self._host, self._next_place()))
        node.start()
        return node

    def keep_logs(self) -> None:
        """Adds to the artifacts the containers' logs of all nodes, and the logs of the boots from which nodes were cloned."""
        for node in self.nodes:
            if node.was_started:
                node.boot.keep_logs()
        for template in self._templates:
            if template.logs.is_dir() and not (self._artifacts / _TEMPLATE).exists():
                shutil.copytree(template.logs, self._artifacts / _TEMPLATE)

    def keep_disks(self) -> None:
        """Ends the nodes and keeps their disks with their artifacts."""
        for node in self.nodes:
            node.keep_disk()

    def close(self) -> None:
        """Ends every node and releases what they used; if one raises, the others are ended first."""
        with self._in_use.pop_all() as ending:
            for node in self.nodes:
                ending.callback(node.close)

    def _prepared(self, order: Order, credentials: Credentials, place: Folders) -> Node:
        key = _boot_key(order)
        self._failed_boots.check(key)
        node = self._remember(Node.prepare(order, self._host, credentials, place))

        def note(words: str) -> None:
            first = words.partition("\n")[0]
            self._failed_boots.note(key, f"{order.image.path.name} did not come up: {first}; artifacts: {place.artifacts}")

        node.when_it_did_not_come_up = note
        return node

    def _remember(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def _next_place(self) -> Folders:
        nodes = [node for node in self.nodes if not node.artifacts.name.startswith(_TEMPLATE)]
        return self._place(f"node-{len(nodes) + 1}")

    def _numbered(self, name: str) -> str:
        """The name itself for the first of them, with a number for later ones."""
        before = sum(node.artifacts.name.startswith(name) for node in self.nodes)
        return f"{name}-{before + 1}" if before else name

    def _place(self, name: str) -> Folders:
        return Folders(Path(tempfile.mkdtemp(dir=self._run_folder)) / name, self._artifacts / name)


@dataclass(frozen=True)
class NewNode:
    """What a scenario calls to make nodes: `make` is one of the methods of `maker`.

    `image` returns the image under test; `defaults` are the wishes of the whole test.
    """

    maker: NodeMaker
    make: Callable[[Order], Node]
    image: Callable[[], Disk]
    defaults: Wishes

    def __call__(
        self,
        image: Disk | None = None,
        pods: Pods = (),
        disk_size: int | str | None = None,
        files: Files | None = None,
        kernel_arguments: Sequence[str] | None = None,
        *,
        nic: str | None = None,
        cpus: int | None = None,
        memory: int | str | None = None,
        site: Site | None = None,
    ) -> Node:
        """Makes a node from an image, by default the one under test; the other arguments are those of `Wishes`.

        `pods` are manifest files or static pods, to which the harness adds its own; one named `console` gets the console
        instead of it. `files` are more files for the data partition, where they replace the image's own. The node reaches
        `site` at 198.51.100.1:5000, in front of the registry that serves container images for which the disk has no room.
        """
        wishes = Wishes(disk_size, memory, nic, cpus, kernel_arguments).over(self.defaults)
        order = self.maker.order(image or self.image(), pods, files, wishes)
        return self.make(replace(order, registry=site.before(order.registry)) if site else order)


def _placed(files: Files) -> Tree:
    """Files by their paths; raises InputError for one that is not an absolute path on the data partition."""
    for place, entry in files.items():
        if not isinstance(entry, Entry):
            raise InputError(f"{place} is {type(entry).__name__}: give the bytes of a file, as b'words', or a File.")
        if not PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise InputError(f"{place} is no place on the data partition: write an absolute path, such as /meta/etc/hosts.")
    return {PurePosixPath(place): entry for place, entry in files.items()}


def _boot_key(order: Order) -> str:
    """A key of everything on which the boot depends up to the first container: all but the manifests."""
    files = sorted((str(path), repr(entry)) for path, entry in order.files.items())
    return hashlib.sha256(repr((digest.of(order.image.path), order.machine, files)).encode()).hexdigest()[:16]


def facts_of(order: Order, host: Host) -> dict[str, str]:
    """Everything on which a frozen node depends."""
    code = host.firmware.code.stat()
    return {
        "image": digest.of(order.image.path),
        "machine": repr(order.machine),
        "own pods": order.own_pods,
        "pods": " ".join(f"{pod.file} {hashlib.sha256(pod.text()).hexdigest()}" for pod in order.all_pods),
        "files": " ".join(f"{path} {hashlib.sha256(repr(entry).encode()).hexdigest()}" for path, entry in order.files.items()),
        "accelerator": f"{host.accelerator.name} {host.accelerator.cpu}",
        "processor": processor.seen_by_guests(host.accelerator),
        "qemu": f"{host.qemu.path} {host.qemu.version} {host.qemu.path.stat().st_mtime_ns}",
        "firmware": f"{host.firmware.code} {code.st_size} {code.st_mtime_ns}",
        "harness": digest.of(*sorted(_HERE.parent.rglob("*.py"))),
    }
