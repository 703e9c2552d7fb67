"""What a test's report says about each of its nodes: in sections of its own, and as JUnit properties."""

import pytest

from harness.lab import digest
from harness.lab.node import Node
from harness.pace import NODES
from harness.summary import describe


def tell_of(node: Node, item: pytest.Item, made: pytest.TestReport) -> None:
    """Adds where a node's artifacts are and, if it was started, its image, the kind of its start, and how far it came."""
    name = node.artifacts.name
    made.sections.append((f"{NODES}{name}", str(node.artifacts)))
    describe(item, f"artifacts of {name}", node.artifacts)
    if not node.was_started:
        return
    passed = ", ".join(f"{entry.name} {entry.after:.1f} s" for entry in node.timeline())
    made.sections.append((f"milestones of {name}", passed))
    describe(item, f"milestones of {name}", passed)
    describe(item, f"start of {name}", "clone" if node.is_clone else "cold boot")
    # An image that the user brought has been described already, by the user's name for it.
    if getattr(item, "funcargs", {}).get("brought") is None:
        tested = node.order.image.path
        describe(item, f"sha256 of {tested.name}", digest.of(tested))
