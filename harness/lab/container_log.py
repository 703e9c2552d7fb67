"""A container's log, from whoever still has it: the kubelet, the files on its node, or those on its node's disk."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.guest import crilog
from harness.guest.kubelet import KubeletApi
from harness.serial.agent import Agent
from harness.storage.disk import Disk

LOGS = PurePosixPath("/meta/log/pods")
"""The folder of logs on the data partition (kiOS contract); its layout is CRI's, NAMESPACE_POD_UID/CONTAINER/RUN.log."""

_LINES = 8
_COMMAND_WITHIN = 60.0

AsLeft = Callable[[], AbstractContextManager[Disk]]
"""Reads a node's disk as it is now, for a `with` block; raises if it cannot be read."""


def last_words(container: tuple[str, str, str], kubelet: Callable[[], KubeletApi], agent: Agent, disk: AsLeft) -> list[str]:
    """The end of a container's log, given its namespace, pod and name; empty if nobody has it.

    The disk is read if nothing on the node answers: the node is gone, or off the network and without an agent.
    """
    namespace, pod, name = container
    where, log = "", ""
    try:
        log = kubelet().logs(namespace, pod, name)
    except (OSError, HarnessError):
        found = _in_files(agent, f"/host/var/log/pods/{namespace}_{pod}_*/{name}/*.log")
        log = _on_disk(disk, container) if found is None else found
        where = ", on its node's disk" if found is None else ""
    lines = [line for line in log.splitlines() if line.strip()][-_LINES:]
    return [f"last words of container {name}{where}:", *(f"  | {shown(line)}" for line in lines)] if lines else []


def on_disk(disk: Disk) -> Mapping[tuple[str, str], Sequence[PurePosixPath]]:
    """The logs on a disk, by pod, as NAMESPACE_POD, and container: one file for each run, in order."""
    found: dict[tuple[str, str], list[PurePosixPath]] = {}
    for pod in disk.folder(LOGS):
        for container in disk.folder(LOGS / pod):
            runs = [run for run in disk.folder(LOGS / pod / container) if run.endswith(".log")]
            paths = [LOGS / pod / container / run for run in sorted(runs, key=_number)]
            found.setdefault((pod.rpartition("_")[0], container), []).extend(paths)
    return found


def text_on(disk: Disk, runs: Sequence[PurePosixPath]) -> str:
    """What a container wrote in these runs, as far as that can be read."""
    return crilog.legible_in(disk.file_if_there(run) or b"" for run in runs)


def _number(run: str) -> tuple[int, str]:
    name = run.removesuffix(".log")
    return int(name) if name.isdecimal() else -1, name


def _in_files(agent: Agent, files: str) -> str | None:
    """The end of the log files of a container's runs; None if the agent does not answer."""
    if not agent.answers:
        return None
    try:
        told = agent.run(crilog.command(f"tail -n {_LINES}", files), _COMMAND_WITHIN).output
    except (HarnessError, NodeFailure):
        return None
    return crilog.legible_in(crilog.runs_in(told))


def _on_disk(disk: AsLeft, container: tuple[str, str, str]) -> str:
    namespace, pod, name = container
    try:
        with disk() as left:
            return text_on(left, on_disk(left).get((f"{namespace}_{pod}", name), []))
    except (HarnessError, NodeFailure, OSError):
        return ""
