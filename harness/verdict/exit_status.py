"""An exit status in words."""

import signal

# Shells and container runtimes add this to the number of the signal that ended a process (POSIX, Shell Command Language,
# 2.8.2).
_BY_SIGNAL = 128
_OF_SHELLS = {126: "what it was to run cannot be run", 127: "what it was to run is not there"}


def in_words(status: int) -> str:
    """A status as `status 137 (SIGKILL)`; a negative number is a signal, as in Python."""
    if status < 0:
        name = signal_name(-status)
    elif status > _BY_SIGNAL:
        name = signal_name(status - _BY_SIGNAL)
    else:
        name = _OF_SHELLS.get(status, "")
    return f"status {status} ({name})" if name else f"status {status}"


def signal_name(number: int) -> str:
    """A signal's name, as `SIGKILL`; empty for a number without a name of its own."""
    return signal.Signals(number).name if number in set(signal.Signals) and number < signal.SIGRTMIN else ""
