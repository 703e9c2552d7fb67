"""Why the kubelet does not have a pod whose manifest is on the node: in the words of its log.

It reads a manifest when it is written, and all of them every 20 s; of one that it cannot use it says so in its log, each time,
and nowhere else (Kubernetes, pkg/kubelet/config/file.go). A pod that it does not admit is in its log too, for whoever cannot
ask for the pod's status (pkg/kubelet/allocation).
"""

import json
import re
import shlex

from harness.guest import kubelet_log

_SAID = re.compile(r'"(?:Could not process manifest file|Unable to process watch event)" err=(?P<error>"(?:[^"\\]|\\.)*")')
_DENIED = re.compile(r'"Pod admission denied" .*reason="(?P<reason>\w+)" message="(?P<message>(?:[^"\\]|\\.)*)"')
_WHERE = re.compile(r"^can't process config file \"[^\"]*\": |^\S*: couldn't parse as pod\(|\), please check config file$")
_LINES = 5


def reason_in(log: str, file: str, pod: str) -> str | None:
    """What a log of the kubelet's says last against a manifest or its pod; None if it says nothing.

    `file` is the manifest's name, `pod` the pod's as `NAMESPACE/NAME`.
    """
    denials = [found for line in log.splitlines() if f'pod="{pod}"' in line and (found := _DENIED.search(line))]
    return f"{denials[-1]['reason']}: {denials[-1]['message']}" if denials else _fault_in(log, file)


def _fault_in(log: str, file: str) -> str | None:
    about = [match for line in log.splitlines() if f"/{file}" in line and (match := _SAID.search(line))]
    if not about:
        return None
    try:
        words = str(json.loads(about[-1]["error"]))
    except ValueError:
        # Go quotes some characters otherwise than JSON does.
        words = about[-1]["error"].strip('"')
    return _WHERE.sub("", _WHERE.sub("", words))


def reading_command(file: str, pod: str) -> str:
    """A command for the console pod that prints what the kubelet's log says of both, where nobody mirrors that log."""
    return kubelet_log.from_pipe(_about(file, pod))


def looking_command(file: str, pod: str) -> str:
    """A command for the console pod that does the same in any case: by the mirror's log files, else by the pipe."""
    return kubelet_log.from_anywhere(_about(file, pod))


def _about(file: str, pod: str) -> str:
    denial = f'pod="{pod}" reason='
    return f"grep -F -e {shlex.quote('/' + file)} -e {shlex.quote(denial)} | tail -n {_LINES}"
