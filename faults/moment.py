"""When a fault took hold, and how far the node of a test had come: what this process saw of both."""

import time
from dataclasses import dataclass, field

import pytest

from faults import stage
from faults.stage import Stage
from harness.lab.node import Node


@dataclass
class Moment:
    """`struck` is when the fault took hold, as `time.monotonic`: the start of the node that has it from the start."""

    struck: float | None = None
    nodes: list[Node] = field(default_factory=list)

    def strike(self) -> None:
        """The fault takes hold now."""
        self.struck = time.monotonic()

    def attend(self, patch: pytest.MonkeyPatch) -> None:
        """Hears of every node that is started from now on."""
        start = Node.start

        def attended(node: Node) -> None:
            self.nodes.append(node)
            self.struck = self.struck or time.monotonic()
            start(node)

        patch.setattr(Node, "start", attended)

    def stage(self) -> Stage:
        """How far the node that was started last has come."""
        nodes = [node for node in self.nodes if node.was_started]
        return stage.of([entry.name for entry in nodes[-1].timeline()], nodes[-1].awaited()) if nodes else Stage.BEFORE


MOMENT = Moment()
