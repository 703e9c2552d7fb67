"""Whether the disks to which a running node writes have space: QEMU's NVMe reports a full one only to the guest."""

import threading
from collections.abc import Sequence
from pathlib import Path

from harness import space
from harness.verdict.feed import DiskFull, Feed

_LOOK_SECONDS = 1.0


class DiskWatch:
    """Publishes the first of the folders whose disk is full, once; looks every second until it is closed."""

    def __init__(self, folders: Sequence[Path], feed: Feed) -> None:
        self._folders, self._feed = folders, feed
        self._full = ""
        self._looking, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-watch", daemon=True)
        self._thread.start()

    def full(self) -> str:
        """The folder whose disk is full now or was before; empty if there is none."""
        with self._looking:
            if not self._full and (found := next(filter(space.is_full, self._folders), None)):
                self._full = str(found)
                self._feed.publish(DiskFull(self._full))
            return self._full

    def close(self) -> None:
        """Stops looking every second."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if self.full():
                return
