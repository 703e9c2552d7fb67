"""Why the kubelet does not start a pod, in the words of its log: without an API server it says so nowhere else.

If a volume cannot be mounted, a sandbox cannot be made, or a network plugin is missing, the pod's status says ContainerCreating
for ever (Kubernetes, pkg/kubelet/pod_workers.go and pkg/volume/util/nestedpendingoperations).
"""

import re
from itertools import pairwise

from harness.guest import kubelet_log

_LINES = 300
_MOST = 300
_ERROR = r'err="(?P<error>(?:[^"\\]|\\.)*)"'
_OF_VOLUME = (
    r'Error: (?P<words>(?:Mount|Map)Volume\.\w+ (?:initialization )?failed for volume "[^"]*") \([^)]*\) '
    r'pod "{name}" \([^)]*\) : (?P<why>.*)'
)
_OF_POD = r'"(?:Error syncing pod, skipping|CreatePodSandbox for pod failed)" ' + _ERROR + r' pod="{namespace}/{name}"'
# A mount's own words, in the last line of an error of several (k8s.io/mount-utils).
_OF_MOUNT = "Output: "
# In a pod's own error, which sums up those of its volumes; each of these has a line of its own.
_SUMMED_UP = "unmounted volumes="
# Words around an error that only repeat which pod it was.
_AROUND = re.compile(
    r'^failed to "\w+" for .*? with \w+: |rpc error: code = \w+ desc = |Failed to create sandbox for pod "[^"]*": '
)


def command() -> str:
    """A command for the console pod that prints the end of the log."""
    return kubelet_log.from_anywhere(f"tail -n {_LINES}")


def reason_in(log: str, namespace: str, name: str) -> str:
    """The last thing that the output of the command says about a pod; empty if it says nothing."""
    of_volume = re.compile(_OF_VOLUME.format(name=re.escape(name)))
    of_pod = re.compile(_OF_POD.format(namespace=re.escape(namespace), name=re.escape(name)))
    reason = ""
    for before, line in pairwise(["", *log.splitlines()]):
        if found := of_volume.search(line):
            reason = f"{found['words']}: {found['why']}"
        elif line.startswith(_OF_MOUNT) and before.startswith("Mounting arguments: ") and reason:
            reason = f"{reason}: {line.removeprefix(_OF_MOUNT)}"
        elif (found := of_pod.search(line)) and not (reason and _SUMMED_UP in found["error"]):
            reason = _AROUND.sub("", _plain(found["error"])).strip('" ')
    return reason[:_MOST]


def _plain(words: str) -> str:
    """The words without nested quotes, each level of which has added backslashes."""
    while "\\" in words[:-1]:
        words = re.sub(r"\\(.)", lambda escaped: " " if escaped[1] == "n" else escaped[1], words)
    return words
