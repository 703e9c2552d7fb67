"""How much is run: `presubmit` takes the tests that are marked so, where any is; each other tier takes all."""

from collections.abc import Sequence

import pytest

MARK = "presubmit"


def left_out_by(tier: str, items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests that a tier leaves out. A folder in which none is marked knows no tiers, and is run as a whole."""
    unmarked = [item for item in items if not item.get_closest_marker(MARK)]
    return unmarked if tier == MARK and len(unmarked) < len(items) else []
