"""The plugin by which a run of pytest is sabotaged: it breaks what the environment names, for this process."""

import os

import pytest

from breaks.table import BREAKS

VARIABLE = "KIOS_E2E_BREAK"


def pytest_configure() -> None:
    """Applies the break that the environment names."""
    if name := os.environ.get(VARIABLE):
        BREAKS[name].how.apply(pytest.MonkeyPatch())
