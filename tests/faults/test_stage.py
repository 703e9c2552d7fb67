"""The stage of a node, by its milestones."""

import pytest

from faults import stage
from faults.stage import Stage


@pytest.mark.parametrize(
    ("passed", "awaited", "expected"),
    [
        ([], ["firmware", "kernel"], Stage.BOOTING),
        (["firmware", "kernel", "init"], ["node/dhcpcd"], Stage.BOOTING),
        (["firmware", "kubelet-api"], ["node/dhcpcd"], Stage.STARTING),
        (["firmware", "node/modprobe"], ["node/dhcpcd"], Stage.STARTING),
        (["firmware", "shell"], ["node/modprobe"], Stage.STARTING),
        (["firmware", "node/modprobe"], [], Stage.READY),
    ],
)
def test_a_stage_is_told_by_milestones(passed: list[str], awaited: list[str], expected: Stage) -> None:
    assert stage.of(passed, awaited) is expected
