"""The kubelet's log on its node, by the console pod: as somebody mirrors it, else in the pipe to which the kubelet writes."""

_MIRRORED = "/host/var/log/pods/*/kubelet/*.log"
# A named pipe, for whoever mirrors the daemon's log (kiOS contract).
_PIPE = "/host/var/run/kubelet.log"
# Out of CRI's format (see `crilog`): kiOS's tinycat reads 100 bytes at a time, and most lines are in parts.
_WHOLE = r"""awk '{tag = $3; sub(/^[^ ]* [^ ]* [^ ]* /, ""); printf "%s%s", $0, tag == "P" ? "" : "\n"}'"""


def from_pipe(select: str) -> str:
    """A command that prints what `select`, a command of the shell's, leaves of the log in the pipe.

    What it reads goes back into the pipe, for the mirror that may come.
    """
    said = "printf '%s\\n' \"$log\""
    back = f"{said} | timeout 1 sh -c 'cat > {_PIPE}'"
    return f"log=$(timeout 1 cat {_PIPE}); {back}; {said} | {select}"


def from_anywhere(select: str) -> str:
    """The same by the mirror's log files, else by the pipe."""
    return f"if ls {_MIRRORED} > /dev/null 2>&1; then cat {_MIRRORED} | {_WHOLE} | {select}; else {from_pipe(select)}; fi"
