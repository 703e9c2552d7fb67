"""Ways to break a node: each says in words what it breaks, and does so to every node that this process makes."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import pytest

from harness import tools
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


class Sabotage(Protocol):
    """A way to break something: in words, and done to the harness of this process."""

    def described(self) -> str: ...
    def apply(self, patch: pytest.MonkeyPatch) -> None: ...


@dataclass(frozen=True)
class Command:
    """A command in the node, as soon as the scenario has it up."""

    command: str

    def described(self) -> str:
        return f"in the node: `{self.command}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        done: set[int] = set()

        def sabotage(node: Node) -> None:
            if id(node) not in done:
                done.add(id(node))
                assert node.run(self.command).status == 0, "the sabotage failed"

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
class NoLoader:
    """An image without its EFI binary."""

    def described(self) -> str:
        return "an image without `EFI/Boot/Bootx64.efi`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        prepare = NodeMaker.prepare
        folder = tempfile.TemporaryDirectory(prefix="kios-e2e-break-")

        def without(maker: NodeMaker, order: Order) -> Node:
            image = order.image
            broken = Path(folder.name) / "broken.img"
            tools.run("cp", "--sparse=always", image.path, broken)
            tools.run("mdel", "-i", f"{broken}@@{image.esp.first * image.table.sector_size}", "::EFI/Boot/Bootx64.efi")
            return prepare(maker, replace(order, image=open_image(broken)))

        patch.setattr(NodeMaker, "prepare", without)


@dataclass(frozen=True)
class OnTheDisk:
    """A file on the data partition of every node that boots."""

    path: str
    content: str

    def described(self) -> str:
        return f"on the data partition: {self.path} with `{self.content}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        prepare = NodeMaker.prepare

        def with_it(maker: NodeMaker, order: Order) -> Node:
            return prepare(maker, replace(order, files={**order.files, PurePosixPath(self.path): self.content.encode()}))

        patch.setattr(NodeMaker, "prepare", with_it)


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
        order = NodeMaker.order

        def opened(maker: NodeMaker, *arguments: Any, **named: Any) -> Order:
            made = order(maker, *arguments, **named)
            return replace(made, machine=replace(made.machine, network="open"))

        patch.setattr(NodeMaker, "order", opened)


@dataclass(frozen=True)
class NothingToGrow:
    """A disk that the image fills already."""

    def described(self) -> str:
        return "a disk of the image's own size"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        order = NodeMaker.order

        def filled(maker: NodeMaker, image: Disk, *arguments: Any, **named: Any) -> Order:
            made = order(maker, image, *arguments, **named)
            return replace(made, machine=replace(made.machine, disk_size=image.size))

        patch.setattr(NodeMaker, "order", filled)


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


def _shown(text: str) -> str:
    return f"`{' '.join(text.split())}`" if text.strip() else "nothing"
