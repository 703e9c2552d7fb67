"""The kubelet's log on its node, read by the console pod: from a mirror, else from the pipe to which the kubelet writes."""

_MIRRORED = "/host/var/log/pods/*/kubelet/*.log"
# A named pipe from which a mirror reads the daemon's log (kiOS contract).
_PIPE = "/host/var/run/kubelet.log"
# Joins lines in CRI's format (see `crilog`): kiOS's tinycat reads 100 bytes at a time, so most lines are in parts.
_WHOLE = r"""awk '{tag = $3; sub(/^[^ ]* [^ ]* [^ ]* /, ""); printf "%s%s", $0, tag == "P" ? "" : "\n"}'"""


def from_anywhere(select: str) -> str:
    """A shell command that prints the log filtered by the command `select`: from the mirror's files, else from the pipe."""
    return f"if ls {_MIRRORED} > /dev/null 2>&1; then cat {_MIRRORED} | {_WHOLE} | {select}; else {_from_pipe(select)}; fi"


def _from_pipe(select: str) -> str:
    # What is read goes back into the pipe, for a mirror that may start later.
    said = "printf '%s\\n' \"$log\""
    back = f"{said} | timeout 1 sh -c 'cat > {_PIPE}'"
    return f"log=$(timeout 1 cat {_PIPE}); {back}; {said} | {select}"
