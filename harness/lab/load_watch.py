"""What a node really takes of this host's CPUs: one that waits leaves them to others, though it may need them again."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

_LOOK_SECONDS = 1.0
# So long a node that was busy is taken to be so yet.
_WINDOW = 6
# What a node that idles takes, and by how much it may take more until it is looked at again.
_LEAST, _MARGIN = 0.1, 1.2
# A smaller change is not worth a look at the gate.
_CHANGE = 0.05


class LoadWatch:
    """Looks each second, until it is closed, at the CPU time of a node, and keeps as many CPUs as it used of late.

    `seconds` is that time so far, `keep` changes what is kept, `most` are the CPUs that it has.
    """

    def __init__(self, seconds: Callable[[], float], keep: Callable[[float], None], most: float) -> None:
        self._seconds, self._keep, self._most = seconds, keep, most
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        seen = deque([self._seconds()], maxlen=_WINDOW + 1)
        kept = None
        while not self._ended.wait(_LOOK_SECONDS):
            seen.append(self._seconds())
            if len(seen) <= _WINDOW:
                continue
            wanted = wanted_cpus(seen[-1] - seen[0], _WINDOW * _LOOK_SECONDS, self._most)
            if kept is None or abs(wanted - kept) > _CHANGE:
                kept = wanted
                # What cannot be written down leaves others to wait longer than they need.
                with contextlib.suppress(OSError):
                    self._keep(wanted)


def wanted_cpus(used: float, seconds: float, most: float) -> float:
    """The CPUs to keep for a node that used so much CPU time in so many seconds."""
    return min(most, max(_LEAST, _MARGIN * used / seconds))
