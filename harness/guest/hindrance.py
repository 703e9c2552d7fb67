"""Why the kubelet does not begin a pod, in the words of its log: it says so nowhere else without an API server.

Volumes that cannot be mounted, a sandbox that CRI-O does not make, a network plugin that is not there: the pod's status says
ContainerCreating for ever (Kubernetes, pkg/kubelet/pod_workers.go and pkg/volume/util/nestedpendingoperations).
"""

import re

from harness.guest import kubelet_log

_LINES = 300
_MOST = 300
_ERROR = r'err="(?P<error>(?:[^"\\]|\\.)*)"'
_OF_VOLUME = r'Error: (?P<words>MountVolume\.\w+ failed for volume "[^"]*") \([^)]*\) pod "{name}" \([^)]*\) : (?P<why>.*)'
_OF_POD = r'"(?:Error syncing pod, skipping|CreatePodSandbox for pod failed)" ' + _ERROR + r' pod="{namespace}/{name}"'
# How a pod's own error sums up those of its volumes, each of which has a line of its own.
_SUMMED_UP = "unmounted volumes="
# What only repeats who it was.
_AROUND = re.compile(
    r'^failed to "\w+" for .*? with \w+: |rpc error: code = \w+ desc = |Failed to create sandbox for pod "[^"]*": '
)


def command() -> str:
    """For the console pod: the end of the log."""
    return kubelet_log.from_anywhere(f"tail -n {_LINES}")


def reason_in(log: str, namespace: str, name: str) -> str:
    """What the end of a log, as the command prints it, says last of a pod; empty if it says nothing."""
    of_volume = re.compile(_OF_VOLUME.format(name=re.escape(name)))
    of_pod = re.compile(_OF_POD.format(namespace=re.escape(namespace), name=re.escape(name)))
    reason = ""
    for line in log.splitlines():
        if found := of_volume.search(line):
            reason = f"{found['words']}: {found['why']}"
        elif (found := of_pod.search(line)) and not (reason and _SUMMED_UP in found["error"]):
            reason = _AROUND.sub("", _plain(found["error"])).strip('" ')
    return reason[:_MOST]


def _plain(words: str) -> str:
    """Without quotes of quotes: each puts a backslash before those within, and before itself."""
    while "\\" in words[:-1]:
        words = re.sub(r"\\(.)", lambda escaped: " " if escaped[1] == "n" else escaped[1], words)
    return words
