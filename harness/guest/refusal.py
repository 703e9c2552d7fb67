"""Why the kubelet does not have a pod whose manifest is on the node: in the words of its log.

It reads a manifest when it is written, and all of them every 20 s; of one that it cannot use it says so in its log, each time,
and nowhere else (Kubernetes, pkg/kubelet/config/file.go).
"""

import json
import re
import shlex

from harness.guest import kubelet_log

_SAID = re.compile(r'"(?:Could not process manifest file|Unable to process watch event)" err=(?P<error>"(?:[^"\\]|\\.)*")')
_WHERE = re.compile(r"^can't process config file \"[^\"]*\": |^\S*: couldn't parse as pod\(|\), please check config file$")
_LINES = 5


def reason_in(log: str, file: str) -> str | None:
    """What a log of the kubelet's says last against the manifest in a file of this name; None if it says nothing."""
    about = [match for line in log.splitlines() if f"/{file}" in line and (match := _SAID.search(line))]
    if not about:
        return None
    try:
        words = str(json.loads(about[-1]["error"]))
    except ValueError:
        # Go quotes some characters otherwise than JSON does.
        words = about[-1]["error"].strip('"')
    return _WHERE.sub("", _WHERE.sub("", words))


def reading_command(file: str) -> str:
    """A command for the console pod that prints what the kubelet's log says of a file, where nobody mirrors that log."""
    return kubelet_log.from_pipe(_about(file))


def looking_command(file: str) -> str:
    """A command for the console pod that does the same in any case: by the mirror's log files, else by the pipe."""
    return kubelet_log.from_anywhere(_about(file))


def _about(file: str) -> str:
    return f"grep -F {shlex.quote('/' + file)} | tail -n {_LINES}"
