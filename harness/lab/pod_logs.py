"""The logs of a node's containers, for the artifacts of a test that failed: the node takes them with it."""

import contextlib
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.guest import crilog
from harness.serial.agent import Agent

# CRI's layout: NAMESPACE_POD_UID/CONTAINER/RUN.log (Kubernetes, kuberuntime).
_LOGS = "/host/var/log/pods"
_MOST_FILES, _MOST_LINES = 64, 5000
_WITHIN = 10.0


def keep(agent: Agent, folder: Path) -> None:
    """Writes the end of each container's log to `folder`, as POD/CONTAINER.log; nothing where the node does not answer."""
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
            read = agent.run(f"tail -qn {_MOST_LINES} {' '.join(files)}", _WITHIN).text
        except (HarnessError, NodeFailure):
            # One that hangs would be waited for once for each.
            return
        with contextlib.suppress(NodeFailure, OSError):
            text = crilog.text_of(read)
            place = folder / Path(pod).name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{Path(container).name}.log").write_text(text)
