"""The plugin by which a run of pytest is sabotaged: it breaks what the environment names, and writes down what came of it."""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from faults.moment import MOMENT
from faults.table import FAULTS

# The name of the fault, and the file for what was observed.
NAME = "KIOS_E2E_FAULT"
OBSERVED = "KIOS_E2E_FAULT_OBSERVED"


def pytest_configure() -> None:
    """Applies the fault that the environment names."""
    if name := os.environ.get(NAME):
        patch = pytest.MonkeyPatch()
        MOMENT.attend(patch)
        FAULTS[name].how.apply(patch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes the stage of the first failure, and the seconds from the fault to it."""
    report = yield
    file = os.environ.get(OBSERVED)
    if file and report.failed and not Path(file).exists():
        seconds = None if MOMENT.struck is None else time.monotonic() - MOMENT.struck
        Path(file).write_text(json.dumps({"stage": MOMENT.stage(), "seconds": seconds}))
    return report
