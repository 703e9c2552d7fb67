"""How long this process stood still: stopped, as by Ctrl-Z, or with its whole host. It hears nothing of a node then."""

import threading
import time

_BEAT_SECONDS = 0.25
# A busy host makes a beat late, and that is counted as QEMU's wait for a CPU.
_LATE_SECONDS = 2.0


class Standstill:
    """Counts the seconds for which this process stood still, from now on until it is closed."""

    def __init__(self) -> None:
        self._seconds, self._beat = 0.0, time.monotonic()
        self._counting, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="standstill", daemon=True)
        self._thread.start()

    def seconds(self) -> float:
        """The seconds so far; whoever asks first after a standstill is told of it."""
        with self._counting:
            at = time.monotonic()
            late = at - self._beat - _BEAT_SECONDS
            self._beat = at
            if late > _LATE_SECONDS:
                self._seconds += late
            return self._seconds

    def close(self) -> None:
        """Stops counting."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self.seconds()
