"""Why the kubelet does not list a pod whose manifest is on the node, in the words of its log.

The kubelet reads a manifest when it is written, and all manifests every 20 s. If it cannot use one, it says so in its log each
time, and nowhere else (Kubernetes, pkg/kubelet/config/file.go). The log also names pods that it does not admit, which helps if
their status cannot be asked for (pkg/kubelet/allocation).
"""

import json
import re
import shlex

from harness.guest import kubelet_log

_SAID = re.compile(r'"(?:Could not process manifest file|Unable to process watch event)" err=(?P<error>"(?:[^"\\]|\\.)*")')
_DENIED = re.compile(r'"Pod admission denied" .*reason="(?P<reason>\w+)" message=(?P<message>"(?:[^"\\]|\\.)*")')
_WHERE = re.compile(r"^can't process config file \"[^\"]*\": |^\S*: couldn't parse as pod\(|\), please check config file$")
_LINES = 5
# What follows a file's name, which may be the beginning of another's: pod.yaml and pod.yaml.bak.
_ENDS = ('"', '\\"', ":")


def reason_in(log: str, file: str, pod: str) -> str | None:
    """The last objection in the kubelet's log to a manifest or its pod; None if there is none.

    `file` is the manifest's name, `pod` the pod's as `NAMESPACE/NAME`.
    """
    denials = [found for line in log.splitlines() if f'pod="{pod}"' in line and (found := _DENIED.search(line))]
    return f"{denials[-1]['reason']}: {_unquoted(denials[-1]['message'])}" if denials else _fault_in(log, file)


def _fault_in(log: str, file: str) -> str | None:
    names = _names(file)
    about = [match for line in log.splitlines() if any(name in line for name in names) and (match := _SAID.search(line))]
    if not about:
        return None
    return _WHERE.sub("", _WHERE.sub("", _unquoted(about[-1]["error"])))


def _names(file: str) -> list[str]:
    """A file's name as the log may have it."""
    return [f"/{file}{end}" for end in _ENDS]


def _unquoted(words: str) -> str:
    try:
        return str(json.loads(words))
    except ValueError:
        # Go quotes some characters differently from JSON.
        return words.strip('"')


def command(file: str, pod: str) -> str:
    """A command for the console pod that prints the last lines of the kubelet's log about a manifest and its pod."""
    wanted = " ".join(f"-e {shlex.quote(each)}" for each in (*_names(file), f'pod="{pod}" reason='))
    return kubelet_log.from_anywhere(f"grep -F {wanted} | tail -n {_LINES}")
