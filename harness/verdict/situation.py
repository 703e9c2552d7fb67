"""How a node stands, by all that was heard of it so far: what it died of, and the last state of each of its containers.

What was recovered from is no trouble any more: a container that failed and then did its work dooms nothing.
"""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.verdict import trouble
from harness.verdict.exit_status import in_words
from harness.verdict.feed import (
    ConsoleLine,
    ContainerState,
    DiskFull,
    Happening,
    KubeletRefusal,
    PodState,
    QemuContinued,
    QemuExit,
    QemuStopped,
    QmpEvent,
    Restored,
)
from harness.verdict.outcome import Contradicted, GuestDied, HostStopped, NoSpace, Outcome, QemuDied
from harness.verdict.trouble import Trouble

# How the kubelet calls a container that has yet to begin. Any other reason to wait is what hinders it, and what it does not get
# past by itself, or not in the time of a test (Kubernetes, pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses).
_BEGINNING = ("", "ContainerCreating", "PodInitializing")
_BACK_OFF, _PULL = "ImagePullBackOff", "ErrImagePull"
# What the kubelet tries again, and gets past: what is pulled before there is a lease, as the harness's own pod is on an image
# that is full; a CRI-O that was asked while it was started again; and one that was too slow, as every CRI-O is on a busy host
# (gRPC's codes; CRI-O, server/utils.go).
_PASSING = ("network is unreachable", "code = Unavailable", "context deadline exceeded", "due to system load")
_KERNEL = re.compile(trouble.STAMP)
# init's words for a daemon that it starts again at once, for ever; a scenario that restarts daemons does it far more seldom.
_EXITED = re.compile(trouble.STAMP + r"kiOS: (?P<daemon>crio|kubelet) has exited! Restarting")
_EXITS, _EXITS_WITHIN = 4, 60.0
# Most lines tell nothing of all this, nor of the way up: none of these words is in them.
_ALL_WORDS = {*trouble.WORDS, "kiOS: ", "0.000000]", "/init as init process"}
# Whoever finds a word has found what it is a part of.
_WORDS = tuple(sorted(word for word in _ALL_WORDS if not any(part in word for part in _ALL_WORDS - {word})))
# The host's own ways to end or stop a machine (QEMU's qapi/run-state.json, ShutdownCause).
_HOST_REASONS = {
    "host-error": "an error of QEMU's",
    "host-qmp-quit": "somebody told QEMU to quit",
    "host-qmp-system-reset": "somebody reset it over QMP",
    "host-signal": "somebody sent QEMU a signal",
    "host-ui": "somebody closed its window",
}
_INIT_FAILURES, _FAILURES = 2, 3
# The kubelet's for any status but 0 (Kubernetes, ContainerStateTerminated), and the agent's where a log is empty.
_WORDLESS = ("Error", "Completed", "")
# How the kubelet says that a critical pod, as static ones are, has no room (pkg/kubelet/preemption).
_NO_ROOM = re.compile(r"to reclaim resources: \[\(res: (?P<resource>[\w./-]+), q: (?P<quantity>\d+)\)")
# Of a whole node (pkg/kubelet/eviction, nodeConditionMessageFmt).
_UNDER_PRESSURE = "The node had condition: "
_MOST_TROUBLES = 64
# Of SIGKILL and SIGTERM, as every container at the node's own end.
_ENDED_BY_OTHERS = (137, 143)
# init looks for its data partition between its start and these words (kiOS, main.c). Its greeting in between may be missing: a
# kernel with nothing to do keeps its last line from an early console until it has another.
_START, _FOUND = "Run /init as init process", "kiOS: Using Datapart:"
_SEARCH = "init has named no data partition: one that looks for it has not found it"


@dataclass(frozen=True)
class Awaited:
    """A pod on which a wait depends: what of it may end, and what is started again (Kubernetes, restartPolicy).

    `one_shots` are its init containers that have to end; a sidecar is none of them.
    """

    name: str
    namespace: str
    restart_policy: str
    one_shots: frozenset[str] = frozenset()

    def is_final(self, state: ContainerState, failures: int) -> bool:
        """Whether a container in this state, that has failed so often, will not come to do its work."""
        if state.state == "waiting":
            return state.reason.partition(":")[0] not in _BEGINNING and not any(each in state.reason for each in _PASSING)
        if state.state != "terminated" or not state.exit_code:
            return False
        if self.restart_policy == "Never":
            return True
        return failures >= (_INIT_FAILURES if state.container in self.one_shots else _FAILURES)


@dataclass(frozen=True)
class KubeletsWord:
    """That on which a wait depends for what only the kubelet can tell."""


Needed = Awaited | KubeletsWord
"""That on which a wait depends."""


def tells(text: str) -> bool:
    """Whether a line on the console, or one of many, may bear on how the node stands or how far it has come."""
    return any(word in text for word in _WORDS)


@dataclass
class _Container:
    state: ContainerState
    # Each source counts for itself: both tell of the same end, in either order.
    told: int = 0
    counted: int = 0
    # By exit status, as only one of the sources may have any: the kubelet's reason, and the last words of its log.
    reasons: dict[int | None, str] = field(default_factory=dict)
    words: dict[int | None, str] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        return max(self.told, self.counted)

    def why(self, status: int | None) -> str:
        """Why it ended with a status, by all who told."""
        reason, words = self.reasons.get(status, ""), self.words.get(status, "")
        return reason if words in reason else ": ".join(filter(None, (reason, words)))


@dataclass
class Situation:
    """Hears happenings in their order.

    `earlier_boots` is how often the node was booted before: the kubelet counts the runs of its containers on, by their logs.
    """

    earlier_boots: int = 0
    _end: Outcome | None = None
    # Why the machine stands still for now, by who can have it go on.
    _stops: dict[str, Outcome] = field(default_factory=dict)
    _loop: Contradicted | None = None
    _io_error: str = ""
    _kernel_runs: bool = False
    _looks_for_data: bool = False
    _troubles: list[Trouble] = field(default_factory=list)
    _exits: dict[str, "deque[ConsoleLine]"] = field(default_factory=dict)
    _containers: dict[tuple[str, str, str], _Container] = field(default_factory=dict)
    _pods: dict[tuple[str, str], PodState] = field(default_factory=dict)
    _refusal: Contradicted | None = None

    def hear(self, happening: Happening) -> bool:
        """Takes one more happening into account; says whether it tells anything."""
        match happening:
            case ConsoleLine(text=text) if not tells(text):
                return False
            case ConsoleLine():
                self._hear_line(happening)
            case QmpEvent():
                self._hear_event(happening)
            case QemuStopped():
                stopped = HostStopped("QEMU's process was stopped by a signal: let it go on with kill -CONT")
                self._stops.setdefault("signal", stopped)
            case QemuContinued():
                self._stops.pop("signal", None)
            case QemuExit(status=status, words=words):
                # What ended the machine before says more than that QEMU went with it.
                self._end = self._ended or QemuDied(status, words)
            case DiskFull(folder=folder):
                # Whatever else went wrong may have come of it.
                self._end = NoSpace(folder)
            case Restored():
                # The firmware is long past: whoever writes its words to the port is somebody else.
                self._kernel_runs = True
            case PodState():
                self._pods[happening.namespace, happening.pod] = happening
                self._refusal = None
            case KubeletRefusal(words=words):
                self._refusal = Contradicted(words)
            case ContainerState():
                self._hear_container(happening)
        return True

    def verdict(self, needed: Sequence[Needed] = ()) -> Outcome | None:
        """Why nothing more can be hoped for from the node, or from what is needed of it; None while something can."""
        of_needed = (self._refusal if isinstance(each, KubeletsWord) else self._verdict_on(each) for each in needed)
        return self._ended or self._loop or next((outcome for outcome in of_needed if outcome), None)

    def unlisted(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """Those of these pods that the kubelet has never told of, though it tells of others."""
        return [pod for pod in pods if (pod.namespace, pod.name) not in self._pods] if self._pods else []

    def unheard(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """Those of these pods of which nobody has told anything, while the kubelet itself tells of none: it cannot be asked."""
        told = {(namespace, name) for namespace, name, _ in self._containers}
        return [] if self._pods else [pod for pod in pods if (pod.namespace, pod.name) not in told]

    def unbegun(self, pods: Sequence[Awaited]) -> list[Awaited]:
        """Those of these pods of which no container has begun yet, by what the kubelet says of each."""
        told = {(namespace, name) for namespace, name, _ in self._containers}
        return [pod for pod in pods if (pod.namespace, pod.name) in told and not self._has_begun(pod)]

    def _verb(self, pod: Awaited, told: PodState) -> str:
        # A pod that is not admitted for want of what others are evicted for has that reason too.
        if told.reason.startswith("Evicted") and _UNDER_PRESSURE not in told.reason:
            return "evicted"
        return "ended" if self._has_begun(pod) else "rejected"

    def _has_begun(self, pod: Awaited) -> bool:
        states = [known.state for name, known in self._containers.items() if name[:2] == (pod.namespace, pod.name)]
        return any(state.state != "waiting" or state.reason not in _BEGINNING for state in states)

    def nearest(self, pods: Sequence[Awaited]) -> list[str]:
        """What the kubelet says of containers that neither run nor are done, in words: what was nearest when time was over."""
        names = {(pod.namespace, pod.name) for pod in pods}
        return [
            f"container {state.container} of pod {state.pod} is waiting: {state.reason}"
            for state in (known.state for known in self._containers.values())
            if (state.namespace, state.pod) in names
            and state.state == "waiting"
            and state.reason not in ("", "PodInitializing")
        ]

    def unended(self, pods: Sequence[Awaited]) -> list[tuple[str, tuple[str, str, str]]]:
        """The containers of these pods that have to end and still run: in words, then namespace, pod and name of each."""
        one_shots = {(pod.namespace, pod.name, container) for pod in pods for container in pod.one_shots}
        running = {name: known.state for name, known in self._containers.items() if known.state.state == "running"}
        return [
            (f"container {name[2]} of pod {name[1]} has not ended: it has run for {time.monotonic() - state.at:.0f} s", name)
            for name, state in running.items()
            if name in one_shots
        ]

    def failed(self, pods: Sequence[Awaited]) -> list[tuple[str, tuple[str, str, str]]]:
        """The containers of these pods that have failed and not run since: each in words, and its namespace, pod and name."""
        names = {(pod.namespace, pod.name) for pod in pods}
        failures = {name: known for name, known in self._containers.items() if name[:2] in names and known.failures}
        return [(_fate(known), name) for name, known in failures.items() if known.state.exit_code not in _ENDED_BY_OTHERS]

    def troubles(self) -> list[Trouble]:
        """What the node survived so far, each once, as it came first; of many the oldest and the newest."""
        return list(self._troubles)

    def awaits(self) -> str:
        """What init waits for, in words, as far as that can be seen from outside; empty if for nothing."""
        return _SEARCH if self._looks_for_data and not self._pods else ""

    def _hear_line(self, line: ConsoleLine) -> None:
        text = line.text
        self._kernel_runs = self._kernel_runs or bool(_KERNEL.match(text))
        if _KERNEL.match(text) and (_START in text or _FOUND in text):
            self._looks_for_data = _START in text
        found = trouble.of_kernel(text, line.at) if self._kernel_runs else trouble.of_firmware(text, line.at)
        if found and found.is_end:
            # A machine that stands still says nothing: that it was stopped meanwhile, or goes on, is only heard before.
            self._end = self._end or GuestDied(found.cause)
        elif found:
            self._hear_trouble(found)
        elif exited := _EXITED.match(text):
            self._hear_exit(exited["daemon"], line)

    def _hear_exit(self, daemon: str, line: ConsoleLine) -> None:
        exits = self._exits.setdefault(daemon, deque(maxlen=_EXITS))
        # A kernel with an early console and another one on the same port says everything twice, with one stamp.
        if exits and exits[-1].text == line.text:
            return
        exits.append(line)
        within = exits[-1].at - exits[0].at
        if len(exits) == _EXITS and within <= _EXITS_WITHIN:
            self._loop = Contradicted(
                f"{daemon} ended {_EXITS} times within {within:.0f} s, each time soon after init had started it, as with a "
                "configuration or an argument that it refuses, or a pod that it crashes at",
                daemon=daemon,
            )

    def _hear_trouble(self, found: Trouble) -> None:
        if found.cause not in [known.cause for known in self._troubles]:
            self._troubles.append(found)
        if len(self._troubles) > _MOST_TROUBLES:
            # What came first may be why the others came.
            del self._troubles[_MOST_TROUBLES // 2]

    def _hear_event(self, event: QmpEvent) -> None:
        reason = str(event.data.get("reason", "no reason given"))
        match event.name:
            case "SHUTDOWN" if reason in _HOST_REASONS or not event.data.get("guest", True):
                self._end = self._ended or HostStopped(f"{_HOST_REASONS.get(reason, 'the machine was ended')} ({reason})")
            case "SHUTDOWN":
                self._end = self._ended or GuestDied(f"the machine was switched off ({reason})")
            case "RESET" if reason in _HOST_REASONS:
                self._end = self._ended or HostStopped(f"{_HOST_REASONS[reason]} ({reason})")
            case "RESET" if event.data.get("guest"):
                self._end = self._ended or GuestDied(f"the machine was reset ({reason})")
            case "GUEST_PANICKED":
                self._end = self._ended or GuestDied("the guest reported a panic")
            case "BLOCK_IO_ERROR":
                why = (
                    "no space is left on it"
                    if event.data.get("nospace")
                    else str(event.data.get("reason", "input/output error"))
                )
                self._io_error = f"the disk under the node's own failed: {why}"
            case "STOP":
                stopped = HostStopped("its CPUs were stopped", asks_why=True)
                self._stops.setdefault("QMP", HostStopped(self._io_error) if self._io_error else stopped)
            case "RESUME":
                self._stops.pop("QMP", None)

    @property
    def _ended(self) -> Outcome | None:
        return self._end or next(iter(self._stops.values()), None)

    def _hear_container(self, state: ContainerState) -> None:
        known = self._containers.setdefault((state.namespace, state.pod, state.container), _Container(state))
        state = _with_cause(state, known.state.reason)
        if state.state == "running" or (state.state == "terminated" and state.exit_code == 0):
            known.told = known.counted = 0
        elif state.state == "terminated" and state.restarts is None:
            # The console pod tells of each end once, network or not.
            known.told += 1
        elif state.state == "terminated" and state.restarts is not None:
            known.counted = max(1, state.restarts + 1 - self.earlier_boots)
        known.state = state
        said = known.words if state.restarts is None else known.reasons
        ends = [state.last_end] if state.last_end else []
        if state.state == "terminated":
            ends += [(state.exit_code or 0, state.reason)]
        said.update({status: reason for status, reason in ends if reason not in _WORDLESS})

    def _verdict_on(self, pod: Awaited) -> Outcome | None:
        told = self._pods.get((pod.namespace, pod.name))
        if told and told.phase == "Failed" and told.reason:
            room = _NO_ROOM.search(told.reason)
            plain = f"the node lacks {_amount(**room.groupdict())} that it requests: " if room else ""
            return Contradicted(f"the kubelet {self._verb(pod, told)} pod {pod.name}: {plain}{told.reason}")
        for (namespace, name, container), known in self._containers.items():
            if (namespace, name) == (pod.namespace, pod.name) and pod.is_final(known.state, known.failures):
                return Contradicted(_fate(known), (namespace, name, container))
        return None


def _with_cause(state: ContainerState, before: str) -> ContainerState:
    """A state; one of backing off from a pull with why that failed, which a kubelet before 1.31 does not repeat."""
    if state.reason.startswith(_BACK_OFF) and before.startswith(_PULL) and _PULL not in state.reason:
        return replace(state, reason=f"{state.reason}: {before}")
    return state


def _amount(resource: str, quantity: str) -> str:
    """As `5 MiB of memory`; the kubelet counts memory in bytes, and CPUs in thousandths."""
    match resource:
        case "memory":
            return f"{int(quantity) / (1 << 20):.0f} MiB of memory"
        case "cpu":
            return f"{int(quantity) / 1000:.2f} CPUs"
        case _:
            return f"{quantity} {resource}"


def _fate(known: _Container) -> str:
    state = known.state
    who = f"container {state.container} of pod {state.pod}"
    if state.state == "waiting" and state.last_end:
        status, reason = state.last_end
        how = f"{in_words(status)}: {known.why(status) or reason}"
        return f"{who} cannot run: {state.reason}; its last run ended with {how}"
    if state.state == "waiting":
        return f"{who} cannot run: {state.reason}"
    often = f" ({known.failures} times by now)" if known.failures > 1 else ""
    why = known.why(state.exit_code) or state.reason or "it left no word"
    return f"{who} ended with {in_words(state.exit_code or 0)}: {why}{often}"
