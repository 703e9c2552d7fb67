"""The logs of a node's containers, for the artifacts of a failed test: they would be lost with the node."""

import contextlib
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.guest import crilog
from harness.lab import container_log
from harness.lab.container_log import AsLeft
from harness.serial.agent import Agent

# CRI's layout: NAMESPACE_POD_UID/CONTAINER/RUN.log (Kubernetes, kuberuntime).
_LOGS = "/host/var/log/pods"
_MOST_FILES, _MOST_LINES = 64, 5000
_WITHIN = 10.0


def keep(agent: Agent, folder: Path) -> None:
    """Writes the end of each container's log to `folder`, as POD/CONTAINER.log; nothing if the node does not answer."""
    if not agent.answers:
        return
    try:
        listed = agent.run(f"cd {_LOGS} && ls -1d */*/*.log | tail -n {_MOST_FILES}", _WITHIN).text.split()
    except (HarnessError, NodeFailure):
        return
    runs: dict[tuple[str, str], list[str]] = {}
    for file in listed:
        pod, _, container = file.rpartition("/")[0].partition("/")
        runs.setdefault((pod.rpartition("_")[0], container), []).append(f"'{_LOGS}/{file}'")
    for (pod, container), files in runs.items():
        try:
            read = agent.run(crilog.command(f"tail -n {_MOST_LINES}", " ".join(files)), _WITHIN).output
        except (HarnessError, NodeFailure):
            # A node that hangs is not waited for again for each container.
            return
        with contextlib.suppress(OSError):
            _write(folder, pod, container, crilog.legible_in(crilog.runs_in(read)))


def keep_left(disk: AsLeft, folder: Path) -> None:
    """As `keep`, from the disk of a node that has ended; nothing if the disk has no logs, as with generation B."""
    with contextlib.suppress(HarnessError, NodeFailure, OSError), disk() as left:
        for (pod, container), runs in list(container_log.on_disk(left).items())[:_MOST_FILES]:
            text = container_log.text_on(left, runs)
            _write(folder, pod, container, "".join(text.splitlines(keepends=True)[-_MOST_LINES:]))


def _write(folder: Path, pod: str, container: str, text: str) -> None:
    place = folder / Path(pod).name
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{Path(container).name}.log").write_text(text)
