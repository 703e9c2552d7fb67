"""The order of tests that run in parallel: the longest first, by their earlier times, so that none is left to run alone."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import whole_file
from harness.lab.admission import QEMU_ITSELF, Need

_GIVEN = "kios-e2e-pace"
# The seconds of a test of unknown duration, by the kind of nodes that it asks for.
_BOOTS, _CLONES = 60.0, 10.0
# Nodes wait more than they work, each power-off alone for 20 s. So there are more workers than CPUs; `Admission` holds back
# nodes that would be too many.
_WORKERS_A_CPU = 3
_A_NODE = (1 << 30) + QEMU_ITSELF
# The title of a report's section about a test's node begins with this.
NODES = "artifacts of "


class Pace:
    """The hooks of one process of a run; `file` keeps the tests' durations for the next run."""

    def __init__(self, config: pytest.Config, file: Path) -> None:
        given: Mapping[str, float] | None = getattr(config, "workerinput", {}).get(_GIVEN)
        # All workers must collect in the same order, whatever another run writes to the file meanwhile.
        self._known = dict(given) if given is not None else _read(file)
        self._is_worker = hasattr(config, "workerinput")
        self._file = file
        self._took: dict[str, float] = defaultdict(float)
        self._with_nodes: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Passes the known durations to a worker of pytest-xdist."""
        node.workerinput[_GIVEN] = self._known  # type: ignore[attr-defined] # xdist's

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> object | None:
        """Lets an idle worker take tests that wait behind another worker's long one, unless `--dist` says otherwise."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import WorkStealingScheduling  # type: ignore[import-untyped]

        made: object = WorkStealingScheduling(config, log)
        return made

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sorts a worker's tests, the longest first; those without nodes keep their order and come last."""
        if self._is_worker:
            guesses = {item: _guess(item) for item in items}
            items.sort(key=lambda item: -self._known.get(item.nodeid, guesses[item]) if guesses[item] else 0)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes the duration of a test, and whether it had nodes."""
        self._took[report.nodeid] += report.duration
        if any(title.startswith(NODES) for title, _ in report.sections):
            self._with_nodes.add(report.nodeid)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Saves the durations of tests with nodes, beside those already known."""
        took = {test: round(self._took[test], 1) for test in self._with_nodes}
        if self._is_worker or not took:
            return
        # Only a convenience: without it, the next run guesses.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            whole_file.write(self._file, json.dumps({**_read(self._file), **took}, indent=1, sort_keys=True))


def workers(limit: Need) -> int:
    """How many workers to start where nodes may take so much in all."""
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
