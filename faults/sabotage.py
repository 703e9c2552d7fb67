"""Ways to break a node: each says in words what it breaks, and does so to every node that this process makes."""

import atexit
import contextlib
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pytest

from faults import pulled
from faults.moment import MOMENT
from harness import tools
from harness.errors import HarnessError, NodeFailure
from harness.lab import builder
from harness.lab.maker import NodeMaker
from harness.lab.node import Node
from harness.lab.order import Order
from harness.lab.template import Templates
from harness.manifests import manifest
from harness.manifests import page as pages
from harness.manifests.manifest import Reading
from harness.manifests.page import Page
from harness.storage.disk import Disk, open_image
from harness.verdict.timeline import Milestone
from harness.vm import machine
from harness.wire.site import Site, Trouble


class Sabotage(Protocol):
    """A way to break something: in words, and done to the harness of this process."""

    def described(self) -> str: ...
    def apply(self, patch: pytest.MonkeyPatch) -> None: ...


@dataclass(frozen=True)
class Act:
    """Something that is done to each node, as soon as the scenario has it up."""

    words: str
    do: Callable[[Node], object] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        done: set[int] = set()

        def sabotage(node: Node) -> None:
            if id(node) not in done:
                done.add(id(node))
                self.do(node)
                MOMENT.strike()

        clone, ready = NodeMaker.clone, Node.wait_until_ready

        def sabotaged_clone(maker: NodeMaker, templates: Templates, order: Order) -> Node:
            node = clone(maker, templates, order)
            sabotage(node)
            return node

        def sabotaged_ready(node: Node) -> None:
            ready(node)
            # A template has to stay whole, for the scenarios that come after.
            if node.artifacts.name != "template":
                sabotage(node)

        patch.setattr(NodeMaker, "clone", sabotaged_clone)
        patch.setattr(Node, "wait_until_ready", sabotaged_ready)


def command(words: str) -> Act:
    """A command in the node, as soon as the scenario has it up."""

    def do(node: Node) -> None:
        assert node.run(words).status == 0, "the sabotage failed"

    return Act(f"in the node: `{words}`", do)


@dataclass(frozen=True)
class BeforeTheStart:
    """Something that is done to each node's own files, just before it is switched on."""

    words: str
    do: Callable[[Node], object] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        start = Node.start

        def started(node: Node) -> None:
            self.do(node)
            start(node)

        patch.setattr(Node, "start", started)


@dataclass(frozen=True)
class InTheBoot:
    """Something that is done to each node in its boot, when it passes a milestone."""

    words: str
    milestone: Milestone
    do: Callable[[Node], object] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        start = Node.start

        def sabotage(node: Node) -> None:
            # The machine may have ended before, and then there is nothing to break.
            with contextlib.suppress(HarnessError, NodeFailure):
                node.boot.wait(self.milestone)
                self.do(node)
                MOMENT.strike()

        def started(node: Node) -> None:
            start(node)
            if node.artifacts.name != "template":
                threading.Thread(target=sabotage, args=(node,), daemon=True).start()

        patch.setattr(Node, "start", started)


@dataclass(frozen=True)
class Qemu:
    """Another command line of QEMU, for nodes that boot: a template that others go on from stays whole."""

    words: str
    edit: Callable[[list[str]], list[str]] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        argv = machine.argv

        def refuse(*_: object) -> Node:
            raise AssertionError("this fault is one of nodes that boot")

        patch.setattr(NodeMaker, "clone", refuse)
        patch.setattr("harness.lab.node.argv", lambda *arguments: self.edit(argv(*arguments)))


@dataclass(frozen=True)
class Surroundings:
    """In what a run of pytest is started: with these variables, options, and words before it and behind its interpreter."""

    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    before: Sequence[str] = ()
    interpreter: Sequence[str] = ()


@dataclass(frozen=True)
class Outside:
    """Something in the surroundings of the whole run; `make` has a folder for what it needs, and the image under test."""

    words: str
    make: Callable[[Path, Path], Surroundings] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Does nothing: the run was started in it."""


def of_image(words: str, damage: Callable[[Path], object]) -> Outside:
    """A copy of the image under test that is damaged, handed in as a user would."""

    def make(folder: Path, image: Path) -> Surroundings:
        broken = folder / "broken.img"
        tools.run("cp", "--sparse=always", image, broken)
        damage(broken)
        return Surroundings(options=("--kios-image", str(broken)))

    return Outside(words, make)


@dataclass(frozen=True)
class BadRegistry(Outside):
    """A container whose image the node's registry has, and something wrong with the answers for paths of a pattern."""

    trouble: Trouble = field(default_factory=Trouble, compare=False)
    pattern: str = ""

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        # Behind the container that has brought the node on the network.
        Edit("  - name: parted\n", f"  - name: pulled\n    image: {pulled.NAME}\n  - name: parted\n").apply(patch)
        serving = contextlib.ExitStack()
        atexit.register(serving.close)
        site = serving.enter_context(Site.serve())
        site.trouble(self.trouble, self.pattern)
        _change_orders(patch, lambda made: replace(made, registry=site.before(made.registry)))


def bad_registry(words: str, trouble: Trouble, pattern: str) -> BadRegistry:
    """See `BadRegistry`: with an image that the run has at hand."""

    def make(folder: Path, image: Path) -> Surroundings:
        return Surroundings(options=("--container", str(pulled.archive(folder / "pulled.tar"))))

    return BadRegistry(words, make, trouble, pattern)


@dataclass(frozen=True)
class Edit:
    """Another text in every manifest that has the old one."""

    old: str
    new: str

    def described(self) -> str:
        return f"in the manifest: {_shown(self.new)} for {_shown(self.old)}"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        def edited(file: Path) -> Reading:
            return manifest.check(file, file.read_text().replace(self.old, self.new).encode())

        patch.setattr(manifest, "read", edited)


@dataclass(frozen=True)
class PageEdit:
    """Another text on kiOS's page."""

    old: str
    new: str

    def described(self) -> str:
        return f"on the page: {_shown(self.new)} for {_shown(self.old)}"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        read = pages.read

        def edited(file: Path) -> Page:
            with tempfile.NamedTemporaryFile("w", suffix=".md") as other:
                other.write(file.read_text().replace(self.old, self.new))
                other.flush()
                return read(Path(other.name))

        patch.setattr(pages, "read", edited)


@dataclass(frozen=True)
class Together:
    """Several at once."""

    words: str
    parts: Sequence[Sabotage] = field(compare=False)

    def described(self) -> str:
        return self.words

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        for part in self.parts:
            part.apply(patch)


@dataclass(frozen=True)
class OnTheDisk:
    """A file on the data partition of every node."""

    path: str
    content: str

    def described(self) -> str:
        return f"on the data partition: {self.path} with `{self.content}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        added = {PurePosixPath(self.path): self.content.encode()}
        _change_orders(patch, lambda made: replace(made, files={**made.files, **added}))


@dataclass(frozen=True)
class OneForAll:
    """Every clone is the same node."""

    def described(self) -> str:
        return "every clone is one and the same node"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        clone = NodeMaker.clone
        made: list[Node] = []

        def same(maker: NodeMaker, templates: Templates, order: Order) -> Node:
            made[:] = made or [clone(maker, templates, order)]
            return made[0]

        patch.setattr(NodeMaker, "clone", same)


@dataclass(frozen=True)
class OpenNetwork:
    """Nodes on a network that is not confined."""

    def described(self) -> str:
        return "a network that reaches the host"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        _change_orders(patch, lambda made: replace(made, machine=replace(made.machine, network="open")))


@dataclass(frozen=True)
class KernelArgument:
    """One more argument for the kernel."""

    word: str

    def described(self) -> str:
        return f"the kernel's argument `{self.word}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        def with_it(made: Order) -> Order:
            said = (*made.machine.kernel_arguments, self.word)
            return replace(made, machine=replace(made.machine, kernel_arguments=said))

        _change_orders(patch, with_it)


@dataclass(frozen=True)
class NothingToGrow:
    """A disk that the image fills already."""

    def described(self) -> str:
        return "a disk of the image's own size"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        _change_orders(patch, lambda made: replace(made, machine=replace(made.machine, disk_size=made.image.size)))


@dataclass(frozen=True)
class OnVariant:
    """A variant of the reference image in the place of the image under test."""

    name: str

    def described(self) -> str:
        return f"the variant `{self.name}` of the reference image"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        order = NodeMaker.order

        def of_variant(maker: NodeMaker, image: Disk, *arguments: Any, **named: Any) -> Order:
            variant = open_image(Path(builder.ask("build", "--variant", self.name)))
            made = order(maker, variant, *arguments, **named)
            size = variant.size if made.machine.disk_size == image.size else made.machine.disk_size
            return replace(made, machine=replace(made.machine, disk_size=size))

        patch.setattr(NodeMaker, "order", of_variant)


def _change_orders(patch: pytest.MonkeyPatch, change: Callable[[Order], Order]) -> None:
    """Every node is made by a changed order; a template has another key by it, and the good one stays whole."""
    order = NodeMaker.order

    def changed(maker: NodeMaker, *arguments: Any, **named: Any) -> Order:
        return change(order(maker, *arguments, **named))

    patch.setattr(NodeMaker, "order", changed)


def _shown(text: str) -> str:
    return f"`{' '.join(text.split())}`" if text.strip() else "nothing"
