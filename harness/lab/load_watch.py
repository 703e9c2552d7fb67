"""How much of this host's CPUs a node really uses: one that waits leaves them to others, though it may need them again."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

_LOOK_SECONDS = 1.0
# A node that was busy is assumed to be busy still for so many looks.
_WINDOW = 6
# What an idle node is given, and by which factor a node may use more until the next look.
_LEAST, _MARGIN = 0.1, 1.2
# A smaller change is not worth passing the gate.
_CHANGE = 0.05


class LoadWatch:
    """Looks at a node's CPU time every second until it is closed, and reserves as many CPUs as the node used lately.

    `seconds` returns that CPU time so far, `keep` changes the reservation, `most` is the number of CPUs that the node has.
    """

    def __init__(self, seconds: Callable[[], float], keep: Callable[[float], None], most: float) -> None:
        self._seconds, self._keep, self._most = seconds, keep, most
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops looking."""
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
                # If it cannot be written, others only wait longer than they need.
                with contextlib.suppress(OSError):
                    self._keep(wanted)


def wanted_cpus(used: float, seconds: float, most: float) -> float:
    """The CPUs to reserve for a node that used so much CPU time in so many seconds."""
    return min(most, max(_LEAST, _MARGIN * used / seconds))
