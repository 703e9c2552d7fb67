"""Manifests that a running kubelet was given and does not list: looked for in its log, so that a wait for them ends."""

import time
from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.guest import refusal
from harness.guest.kubelet import KubeletApi
from harness.manifests.pods import StaticPod
from harness.verdict.feed import Feed, PodState

# The kubelet lists a pod as soon as it has read its manifest. One that it has not is looked for in its log, now and again.
_LISTED_WITHIN, _LOOK_AGAIN = 2.0, 3.0
# Where it cannot be asked: what reads its log then stands in nobody's way for so long.
_HEARD_WITHIN = 10.0
# The container of kiOS's page that mirrors the kubelet's log.
_MIRROR = "kubelet"


class Refusals:
    """What one run's kubelet refuses. `output_of` runs a command on the node, or returns None where none can be run."""

    def __init__(self, kubelet: KubeletApi, output_of: Callable[[str], str | None], feed: Feed, slowness: float) -> None:
        self._kubelet, self._output_of, self._feed = kubelet, output_of, feed
        self._listed_within = _LISTED_WITHIN * slowness
        self._looks: dict[str, float] = {}

    def look(self, unlisted: Sequence[StaticPod]) -> None:
        """Publishes, of those that are not listed for long enough, why they are refused, if the log says so."""
        self._look(unlisted, self._listed_within)

    def look_unasked(self, unheard: Sequence[StaticPod]) -> None:
        """The same where the kubelet has never been asked, for want of a network, of those of which nothing is heard."""
        self._look(unheard, _HEARD_WITHIN)

    def _look(self, pods: Sequence[StaticPod], within: float) -> None:
        now = time.monotonic()
        for pod in pods:
            look = self._looks.setdefault(pod.file, now + within)
            if now >= look:
                self._looks[pod.file] = now + _LOOK_AGAIN
                name = f"{pod.namespace}/{pod.name}"
                if words := refusal.reason_in(self._log_about(pod.file, name), pod.file, name):
                    self._feed.publish(PodState(pod.name, "Failed", f"{pod.file}: {words}", pod.namespace))

    def _log_about(self, file: str, name: str) -> str:
        """What the kubelet's log says of a manifest and its pod, by the console pod, or by the mirror."""
        told = self._output_of(refusal.looking_command(file, name))
        if told is not None:
            return told
        try:
            mirrors = [state for state in self._kubelet.states() if state.container == _MIRROR and state.state == "running"]
            return self._kubelet.logs(mirrors[0].namespace, mirrors[0].pod, _MIRROR) if mirrors else ""
        except (OSError, HarnessError):
            return ""
