"""Manifests that a running kubelet was given and does not list: its log says why, which ends the wait for them."""

import time
from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.guest import refusal
from harness.guest.kubelet import KubeletApi
from harness.manifests.pods import StaticPod
from harness.verdict.feed import Feed, PodState

# The kubelet lists a pod as soon as it has read its manifest. For one that it does not list, its log is read now and again.
_LISTED_WITHIN, _LOOK_AGAIN = 2.0, 1.5
# If the kubelet cannot be asked, its log is not read before this time, so as not to disturb a node that is well.
_HEARD_WITHIN = 10.0
# The container of kiOS's page that mirrors the kubelet's log.
_MIRROR = "kubelet"


class Refusals:
    """What one run's kubelet refuses. `output_of` runs a command on the node, or returns None if it cannot be run."""

    def __init__(self, kubelet: KubeletApi, output_of: Callable[[str], str | None], feed: Feed, slowness: float) -> None:
        self._kubelet, self._output_of, self._feed = kubelet, output_of, feed
        self._listed_within = _LISTED_WITHIN * slowness
        self._looks: dict[str, float] = {}

    def look(self, unlisted: Sequence[StaticPod]) -> None:
        """Publishes why pods were refused, if they have been unlisted for long enough and the log says why."""
        self._look(unlisted, self._listed_within)

    def look_unasked(self, unheard: Sequence[StaticPod]) -> None:
        """The same for pods of which nothing was heard, if the kubelet could not be asked for lack of a network."""
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
        """What the kubelet's log says about a manifest and its pod, read by the console pod, or else from the mirror."""
        told = self._output_of(refusal.command(file, name))
        if told is not None:
            return told
        try:
            mirrors = [state for state in self._kubelet.states() if state.container == _MIRROR and state.state == "running"]
            return self._kubelet.logs(mirrors[0].namespace, mirrors[0].pod, _MIRROR) if mirrors else ""
        except (OSError, HarnessError):
            return ""
