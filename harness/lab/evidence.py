"""What a node that failed can still be asked for: the last words of containers, of daemons, and on the screen."""

from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.guest import crilog, memory
from harness.guest.kubelet import KubeletApi
from harness.serial.agent import Agent
from harness.vm.qmp import Qmp

_LINES = 8
_COMMAND_WITHIN = 60.0
_QMP_WITHIN = 30.0


def of_container(namespace: str, pod: str, container: str, kubelet: KubeletApi, agent: Agent) -> list[str]:
    """The end of a container's log: by the kubelet's word, else from its files; nothing where neither can be asked."""
    try:
        log = kubelet.logs(namespace, pod, container)
    except (OSError, HarnessError):
        log = _log_in_files(agent, f"/host/var/log/pods/{namespace}_{pod}_*/{container}/*.log")
    lines = [line for line in log.splitlines() if line.strip()]
    return [f"last words of container {container}:", *(f"  | {shown(line)}" for line in lines[-_LINES:])] if lines else []


def of_daemon(daemon: str, qmp: Qmp, copy: Path) -> list[str]:
    """Why a daemon does not stay up, in its own words: nobody reads its log there, but the guest's memory has it.

    `copy` is a file for the time of the search.
    """

    def save(start: int, length: int, file: Path) -> None:
        qmp.execute("pmemsave", {"val": start, "size": length, "filename": str(file)}, _QMP_WITHIN)

    try:
        size = qmp.execute("query-memory-size-summary")
        if not isinstance(size, dict):
            raise HarnessError(f"QEMU tells the size of its memory as {size!r}")
        reason = memory.reason(daemon, int(size["base-memory"]), save, copy)
    except (HarnessError, OSError) as unread:
        return [f"{daemon}'s own words could not be read in the guest's memory: {shown(str(unread))}"]
    return [f"{daemon}'s own words, in the guest's memory: {shown(reason) or 'none'}"]


def on_screen(screen: Callable[[], str]) -> str:
    """What an image that is silent on its serial port says; nothing where the screen cannot be read any more."""
    try:
        # A firmware's picture reads as nothing but characters that the font does not have.
        legible = [line for line in screen().splitlines() if any(map(str.isalnum, line))]
    except (HarnessError, OSError):
        return ""
    lines = legible[-_LINES:]
    return "".join(["last words on the screen:\n", *(f"  | {shown(line)}\n" for line in lines)]) if lines else ""


def _log_in_files(agent: Agent, files: str) -> str:
    """For a node that is not on the network: the files of all of a container's runs, where CRI-O has them written."""
    if not agent.answers:
        return ""
    try:
        return crilog.text_of(agent.run(f"tail -qn {_LINES} {files}", _COMMAND_WITHIN).text)
    except (HarnessError, NodeFailure):
        return ""
