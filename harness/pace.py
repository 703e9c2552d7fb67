"""The order of tests where several run at once: the longest come first, by what they took before, so that none ends alone."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import whole_file
from harness.lab.admission import QEMU_ITSELF, Need

_GIVEN = "kios-e2e-pace"
# Of a test of which nothing is known: seconds, by the nodes that it asks for.
_BOOTS, _CLONES = 60.0, 10.0
# Nodes wait more than they work, 20 s of each power-off alone: workers are more than CPUs, and the gate holds back what would
# be too much.
_WORKERS_A_CPU = 3
_A_NODE = (1 << 30) + QEMU_ITSELF
# What a report says of the nodes of a test begins so.
NODES = "artifacts of "


class Pace:
    """The hooks of one process's part of a run; `file` keeps what tests took, for the next."""

    def __init__(self, config: pytest.Config, file: Path) -> None:
        given: Mapping[str, float] | None = getattr(config, "workerinput", {}).get(_GIVEN)
        # All workers have to collect in one order, whatever another run writes to the file meanwhile.
        self._known = dict(given) if given is not None else _read(file)
        self._is_worker = hasattr(config, "workerinput")
        self._file = file
        self._took: dict[str, float] = defaultdict(float)
        self._with_nodes: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Tells a worker of pytest-xdist."""
        node.workerinput[_GIVEN] = self._known  # type: ignore[attr-defined] # xdist's

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> object | None:
        """Has a worker that is done take over what waits behind a long test of another's, unless `--dist` says else."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped]

        made: object = WorkStealingScheduling(config, log)
        return made

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Puts a worker's tests in their order; those that ask for no node keep theirs, and come last."""
        if self._is_worker:
            guesses = {item: _guess(item) for item in items}
            items.sort(key=lambda item: -self._known.get(item.nodeid, guesses[item]) if guesses[item] else 0)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes what a test with nodes took."""
        self._took[report.nodeid] += report.duration
        if any(title.startswith(NODES) for title, _ in report.sections):
            self._with_nodes.add(report.nodeid)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Keeps what tests with nodes took; what is known of others stays."""
        took = {test: round(self._took[test], 1) for test in self._with_nodes}
        if self._is_worker or not took:
            return
        # It is a comfort: where it cannot be kept, the next run guesses.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            whole_file.write(self._file, json.dumps({**_read(self._file), **took}, indent=1, sort_keys=True))


def workers(limit: Need) -> int:
    """The workers for what nodes may take here."""
    return max(1, min(round(_WORKERS_A_CPU * limit.cpus), limit.memory // _A_NODE))


def _read(file: Path) -> dict[str, float]:
    try:
        told = json.loads(file.read_text())
        return {str(test): float(seconds) for test, seconds in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _guess(item: pytest.Item) -> float:
    asked = getattr(item, "fixturenames", ())
    if "new_node" in asked or item.get_closest_marker("cold"):
        return _BOOTS
    return _CLONES if "ready_node" in asked else 0.0
