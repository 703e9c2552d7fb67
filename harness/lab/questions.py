"""What a scenario asks of a running node: commands, files, modules, pods, logs, the lease, and waits for them."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import HarnessError, InputError, NodeFailure
from harness.guest import crilog
from harness.guest.kubelet import StatusError
from harness.guest.remote_command import RemoteCommand
from harness.lab import vitals
from harness.lab.boot import Boot
from harness.serial.result import Result
from harness.verdict.exit_status import in_words
from harness.verdict.feed import ContainerState, PodState
from harness.wire.dhcp import Lease
from harness.wire.path import loss_of_long

_STATES = ("running", "terminated", "waiting")
_WITHIN = 60.0
_MOST_LINE = 300


@dataclass(frozen=True)
class Pod:
    """A pod as the kubelet reports it: `phase` is that of a v1 PodStatus; init containers come first."""

    name: str
    namespace: str
    phase: str
    containers: tuple[ContainerState, ...]


class Questions(ABC):
    """The questions to a running node. `within` is in seconds on the reference host."""

    @property
    @abstractmethod
    def boot(self) -> Boot:
        """The run that is asked."""

    def run(self, command: str) -> Result:
        """Runs a command in the console container's shell; the host's files are under /host there."""
        return self.boot.run(command)

    def succeed(self, command: str) -> str:
        """Runs a command as `run` does and returns its output; raises NodeFailure unless it ends with status 0."""
        done = self.boot.run(command)
        if done.status:
            raise NodeFailure(f"`{command}` ended with {_ending(done)}")
        return done.text

    def fail(self, command: str) -> str:
        """Runs a command as `run` does and returns its output; raises NodeFailure if it ends with status 0."""
        done = self.boot.run(command)
        if not done.status:
            raise NodeFailure(f"`{command}` should have failed, but ended with {_ending(done)}")
        return done.text

    def exec(self, pod: str, container: str, *command: str, within: float = _WITHIN) -> Result:
        """Runs a program in a container of a pod through the kubelet's own endpoint, as `kubectl exec` does.

        Returns its status and its output: stdout and stderr, merged as they came. Raises NodeFailure if it cannot be run or
        does not end in time; InputError for a container that no manifest of the node names.
        """
        if not command:
            raise InputError(
                f"There is no command for container {container} of pod {pod}: node.exec(pod, container, program, ...)."
            )
        return self.boot.exec(RemoteCommand(self._known(pod, container).namespace, pod, container, command), within)

    def read(self, path: PurePosixPath | str) -> bytes:
        """Returns the content of a file on the node; `path` is absolute. Raises NodeFailure if it cannot be read."""
        try:
            return self.boot.read_file(_absolute(path))
        except NodeFailure as refused:
            raise NodeFailure(f"{path} cannot be read on the node: {refused}") from refused

    def write(self, path: PurePosixPath | str, content: bytes) -> None:
        """Writes a file on the node, and the folders above it; the file appears only when it is whole.

        `path` is absolute. Raises NodeFailure if it cannot be written.
        """
        if not isinstance(content, bytes):
            raise InputError(f"{path} was to be written with {type(content).__name__}: give bytes, as b'words'.")
        try:
            self.boot.write_file(_absolute(path), content)
        except NodeFailure as refused:
            why = "; ".join(filter(None, (str(refused), vitals.ask(self.boot.agent).of_room())))
            raise NodeFailure(f"{path} cannot be written on the node: {why}") from refused

    def modules(self) -> frozenset[str]:
        """Returns the names of the loaded modules as the kernel has them, with underscores."""
        return frozenset(line.split()[0] for line in self.succeed("cat /proc/modules").splitlines())

    def pods(self) -> tuple[Pod, ...]:
        """Returns every pod as the kubelet reports it now; raises NodeFailure if the kubelet does not answer."""
        try:
            changes = self.boot.kubelet.changes()
        except (OSError, StatusError) as silent:
            path = loss_of_long(self.boot.capture)
            raise NodeFailure(f"the kubelet does not list its pods: {silent}{f'; {path}' if path else ''}") from silent
        states = [state for state in changes if isinstance(state, ContainerState)]
        return tuple(
            Pod(
                pod.pod,
                pod.namespace,
                pod.phase,
                tuple(state for state in states if (state.namespace, state.pod) == (pod.namespace, pod.pod)),
            )
            for pod in changes
            if isinstance(pod, PodState)
        )

    def logs(self, pod: str, container: str) -> str:
        """Returns what a container wrote, its earlier runs first, from the log files on the node.

        What the kubelet has rotated away, beyond 10 MiB of a run, is missing (Kubernetes, containerLogMaxSize). Raises
        NodeFailure if there are no such files, or if they are not in CRI's format.
        """
        files = f"/host/var/log/pods/*_{_name(pod)}_*/{_name(container)}/*.log"
        done = self.boot.run(f"files=$(ls -v {files}) && {crilog.command('cat', '$files')}")
        if done.status:
            raise NodeFailure(f"container {container} of pod {pod} has no log: {done.text.strip()}")
        return crilog.text_of(crilog.runs_in(done.output))

    def lease(self) -> Lease:
        """Returns the lease of eth0 as it was granted on its wire; raises NodeFailure if it holds none."""
        return self.boot.lease()

    def wait_for_line(self, pod: str, container: str, pattern: str, within: float = _WITHIN) -> str:
        """Waits until a container has written, in its last run, a line that contains the pattern; returns the line."""
        try:
            wanted = re.compile(pattern)
        except re.error as wrong:
            raise InputError(f"{pattern!r} is no regular expression: {wrong}.") from wrong

        def line() -> str | None:
            return next((line for line in self._last_log(pod, container).split("\n") if wanted.search(line)), None)

        def seen() -> str:
            lines = [line for line in self._last_log(pod, container).split("\n") if line.strip()]
            return f"its log has {len(lines)} lines, the last: {lines[-1][:_MOST_LINE]}" if lines else "its log is empty"

        self._refuse_unknown(pod, container)
        found = self.boot.until(line, f"a line {pattern!r} of container {container} of pod {pod}", within, seen)
        assert found is not None
        return found

    def wait_for_state(self, pod: str, container: str, state: str, within: float = _WITHIN) -> ContainerState:
        """Waits until the kubelet reports that a container is `running`, `terminated` or `waiting`; returns its state."""
        if state not in _STATES:
            raise InputError(f"There is no state {state!r} of a container: use one of {', '.join(_STATES)}.")

        def reached() -> ContainerState | None:
            known = self._state(pod, container)
            return known if known is not None and known.state == state else None

        def seen() -> str:
            known = self._state(pod, container)
            return f"it is {known.state}{f' ({known.reason})' if known.reason else ''}" if known else "the kubelet has none"

        self._refuse_unknown(pod, container)
        found = self.boot.until(reached, f"container {container} of pod {pod} is {state}", within, seen)
        assert found is not None
        return found

    def wait_for_port(self, port: int, within: float = _WITHIN) -> None:
        """Waits until something in the node's own network namespace listens on a TCP port."""
        if not 0 < port < 1 << 16:
            raise InputError(f"There is no TCP port {port}.")
        # State 0A is LISTEN (Linux, include/net/tcp_states.h).
        listens = f"grep -q ':{port:04X} [0-9A-F]*:0000 0A' /proc/net/tcp /proc/net/tcp6 2> /dev/null"
        self.boot.until(lambda: self.boot.run(listens).status == 0, f"TCP port {port} is listened on", within)

    def _refuse_unknown(self, pod: str, container: str) -> None:
        """Raises InputError for a container that no manifest names and that the kubelet, if it answers, does not have."""
        if self.boot.expects(pod, container):
            return
        try:
            states = self.boot.kubelet.states()
        except (OSError, HarnessError):
            return
        if states and (pod, container) not in [(state.pod, state.container) for state in states]:
            self._known(pod, container)

    def _known(self, pod: str, container: str) -> ContainerState:
        """A container that the kubelet has; a missing one is the node's failure if a manifest names it, else the test's."""
        there = [state for each in self.pods() for state in each.containers]
        if found := next((state for state in there if (state.pod, state.container) == (pod, container)), None):
            return found
        if self.boot.expects(pod, container):
            raise NodeFailure(f"the kubelet has no container {container} of pod {pod}")
        names = ", ".join(f"{state.pod}/{state.container}" for state in there) or "none"
        raise InputError(f"There is no container {container} of pod {pod}; the node has {names}.")

    def _state(self, pod: str, container: str) -> ContainerState | None:
        """What the kubelet says about a container; None while it says nothing."""
        try:
            states = self.boot.kubelet.states()
        except (OSError, HarnessError):
            return None
        return next((known for known in states if (known.pod, known.container) == (pod, container)), None)

    def _last_log(self, pod: str, container: str) -> str:
        known = self._state(pod, container)
        if known is None:
            return ""
        try:
            return self.boot.kubelet.logs(known.namespace, pod, container)
        except (OSError, HarnessError):
            # A container that has not started has no log yet.
            return ""


def _absolute(path: PurePosixPath | str) -> PurePosixPath:
    """A file's path on the node."""
    if not PurePosixPath(path).is_absolute() or not PurePosixPath(path).name:
        raise InputError(f"{path} is no absolute path of a file on the node, such as /etc/hosts.")
    return PurePosixPath(path)


def _ending(done: Result) -> str:
    return f"{in_words(done.status)}: {done.text.strip()[-500:] or 'nothing was said'}"


def _name(name: str) -> str:
    """The name of a pod or container, for the shell: Kubernetes' names (RFC 1123) need no quotes."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
        raise InputError(f"{name!r} is no name of a pod or container.")
    return name
