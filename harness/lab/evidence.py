"""What a failure says: what was heard of the node by then, and what it can still be asked for where it stands."""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.guest import crilog, memory
from harness.guest.kubelet import KubeletApi
from harness.serial.agent import Agent
from harness.verdict.outcome import Contradicted, Outcome, Stalled, TooLate, error, explain
from harness.verdict.timeline import API, INIT, Passed
from harness.vm.qmp import Qmp
from harness.wire import dhcp

_LINES = 8
# Of what a node survived, so many of the last are told.
_TROUBLES = 3
_COMMAND_WITHIN = 60.0
_QMP_WITHIN = 30.0
_SIGN_WITHIN = 5.0
_LOOKS, _LOOK_SECONDS = 4, 0.05
_DAEMONS = """for each in crio kubelet; do
  pid=$(pidof $each) && sed -n "s/^State:[[:space:]]*\\(.\\).*/$each \\1/p" /proc/${pid%% *}/status || echo $each none
done"""
# proc_pid_status(5).
_STATES = {
    "none": "does not run",
    "T": "is stopped",
    "t": "is stopped",
    "Z": "has ended",
    "D": "waits for a disk",
}
_REGISTERS = re.compile(r"RIP=(?P<rip>[0-9a-f]{16}) .*?CPL=(?P<cpl>\d).*?HLT=(?P<hlt>\d)")


@dataclass(frozen=True)
class Heard:
    """What was heard of a run: its milestones, its last lines, what it survived, what its pods and its init wait for."""

    passed: Sequence[Passed]
    last_lines: Sequence[str]
    troubles: Sequence[str] = ()
    nearest: Sequence[str] = ()
    init_awaits: str = ""


@dataclass(frozen=True)
class Witnesses:
    """Who can be asked of a run that failed. `captures` are of eth0's cable, in the order of their time.

    `kubelet` is called when it is asked: a run that failed as it started has none.
    """

    kubelet: Callable[[], KubeletApi]
    agent: Agent
    qmp: Qmp
    screen: Callable[[], str]
    captures: Sequence[Path]
    mac: str
    artifacts: Path


def failure(outcome: Outcome, what: str, seen: str, heard: Heard, asked: Witnesses) -> HarnessError | NodeFailure:
    """The exception that says how a wait for `what` ended; `seen` is what whoever waited had seen of it."""
    words: list[str] = []
    signs = [seen] if seen else []
    if isinstance(outcome, Contradicted) and outcome.container:
        words += of_container(*outcome.container, asked.kubelet(), asked.agent)
    if isinstance(outcome, Contradicted) and outcome.daemon:
        said = of_daemon(outcome.daemon, asked.qmp, asked.artifacts / "memory")
        outcome = replace(outcome, by=f"{outcome.by}; {said}")
    if isinstance(outcome, TooLate | Stalled):
        words += map(shown, heard.nearest)
        signs += signs_of_life(heard, asked)
    before = list(dict.fromkeys(heard.troubles[-_TROUBLES:]))
    words.insert(0, explain(outcome, what, heard.last_lines, _reached(heard.passed), signs, before))
    words += [f"{on_screen(asked.screen)}artifacts: {asked.artifacts}"]
    return error(outcome, "\n".join(words))


def signs_of_life(heard: Heard, asked: Witnesses) -> list[str]:
    """Where a node is from which something did not come."""
    passed = [entry.name for entry in heard.passed]
    signs = [heard.init_awaits, of_cpu(asked.qmp)]
    if API.name in passed:
        signs += [of_api(asked.kubelet()), of_daemons(asked.agent)]
    elif INIT.name in passed:
        signs.append(of_lease(asked.captures, asked.mac))
    return [sign for sign in signs if sign]


def _reached(passed: Sequence[Passed]) -> list[str]:
    frozen = [entry.name for entry in passed if entry.frozen]
    before = [f"{frozen[0]} to {frozen[-1]} (before it was frozen)"] if frozen else []
    return [*before, *(entry.name for entry in passed if not entry.frozen)]


def of_container(namespace: str, pod: str, container: str, kubelet: KubeletApi, agent: Agent) -> list[str]:
    """The end of a container's log: by the kubelet's word, else from its files; nothing where neither can be asked."""
    try:
        log = kubelet.logs(namespace, pod, container)
    except (OSError, HarnessError):
        log = _log_in_files(agent, f"/host/var/log/pods/{namespace}_{pod}_*/{container}/*.log")
    lines = [line for line in log.splitlines() if line.strip()]
    return [f"last words of container {container}:", *(f"  | {shown(line)}" for line in lines[-_LINES:])] if lines else []


def of_daemon(daemon: str, qmp: Qmp, copy: Path) -> str:
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
        return f"{daemon}'s own words could not be read in the guest's memory: {unread}"
    return f"{daemon}'s own words: {reason}" if reason else f"{daemon}'s own words are not in the guest's memory"


def of_api(kubelet: KubeletApi) -> str:
    """Why the kubelet cannot be asked; empty if it can."""
    try:
        kubelet.pods()
    except TimeoutError:
        return "the kubelet's API takes connections and does not answer"
    except (OSError, HarnessError) as refused:
        return f"the kubelet's API cannot be asked: {refused}"
    return ""


def of_daemons(agent: Agent) -> str:
    """Which of the daemons do not run, or are stopped; empty if both are well, or the node cannot be asked."""
    if not agent.answers:
        return ""
    try:
        told = agent.run(_DAEMONS, _SIGN_WITHIN).text.split()
    except (HarnessError, NodeFailure):
        return ""
    known = dict(zip(told[::2], told[1::2], strict=False))
    return ", ".join(f"{daemon} {_STATES[state]}" for daemon, state in known.items() if state in _STATES)


def of_cpu(qmp: Qmp) -> str:
    """Where the machine's CPUs are, by some looks at their registers; empty where QEMU does not tell."""
    seen: Counter[str] = Counter()
    for _ in range(_LOOKS):
        time.sleep(_LOOK_SECONDS)
        try:
            told = qmp.execute("human-monitor-command", {"command-line": "info registers -a"}, _SIGN_WITHIN)
        except HarnessError:
            return ""
        seen.update(map(_place_of, _REGISTERS.finditer(str(told))))
    return f"the CPU was in {' and '.join(place for place, _ in seen.most_common(2))}" if seen else ""


def _place_of(registers: re.Match[str]) -> str:
    """By the rules of x86-64: a program's code has CPL 3, the kernel's half of the addresses is the upper one."""
    if registers["hlt"] == "1":
        return "its idle loop"
    if registers["cpl"] == "3":
        return "a program"
    at = registers["rip"]
    return f"the kernel at {at}" if int(at, 16) >> 47 else f"the firmware or the EFI binary at {at}"


def of_lease(captures: Sequence[Path], mac: str) -> str:
    """What became of eth0's lease, by its wire; empty if it has one."""
    try:
        dhcp.lease(captures, mac)
    except NodeFailure:
        sent = [message for capture in captures for message in dhcp.messages(capture) if message.client_mac == mac.lower()]
        asked = sum(message.kind in (dhcp.Kind.DISCOVER, dhcp.Kind.REQUEST) for message in sent)
        if not asked:
            return "eth0 never asked for a lease"
        if asked == len(sent):
            return f"eth0 asked {asked} times for a lease, and nobody answered"
        return f"eth0 has no lease, though it was answered: {dhcp.summary(sent)}"
    except OSError:
        return ""
    return ""


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
