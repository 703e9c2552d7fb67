"""One QEMU process: started so that it cannot outlive the run, and reaped as soon as it ends."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QemuContinued, QemuExit, QemuStopped

_STAT = Path("/proc/stat")
_TAIL_BYTES = 4096
_KILL_SECONDS = 10.0


def _no_capabilities() -> list[str]:
    """Options that leave root's QEMU root's files but none of root's powers; an ordinary user has none to lose.

    Another user's QEMU could enter neither root's home, where the cache is, nor the run's folder.
    """
    return ["--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []


class QemuProcess:
    """A running or ended QEMU; `start` makes one."""

    def __init__(
        self, process: subprocess.Popen[bytes], stderr: Path, feed: Feed, hear_out: Callable[[], None] = lambda: None
    ) -> None:
        self._process = process
        self._stderr = stderr
        self._feed = feed
        self._hear_out = hear_out
        self._status: int | None = None
        self._began, self._stolen_before = time.monotonic(), _stolen()
        self._ended = threading.Event()
        threading.Thread(target=self._reap, name=f"reap-{process.pid}", daemon=True).start()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        pass_fds: Collection[int],
        stderr: Path,
        feed: Feed,
        hear_out: Callable[[], None] = lambda: None,
    ) -> "QemuProcess":
        """Starts `argv` in a session of its own, with `pass_fds` open in it and stdout and stderr appended to `stderr`.

        Call it from the main thread or from one that outlives QEMU: the death signal that ends QEMU with a killed pytest is
        sent when the *thread* that started QEMU ends (prctl(2), PR_SET_PDEATHSIG).

        That QEMU ends, is stopped by a signal or continues is published to `feed`; its end only after `hear_out` has returned,
        which makes sure that all that QEMU said before has been published. Raises HarnessError if `argv[0]` cannot be executed.
        """
        for program in ("setpriv", argv[0]):
            if shutil.which(program) is None:
                raise HarnessError(f"{program} cannot be executed: no such program, or its file is not executable")
        try:
            with stderr.open("ab") as output:
                process = subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", "--no-new-privs", *_no_capabilities(), "--", *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=tuple(pass_fds),
                    start_new_session=True,
                )
        except OSError as error:
            raise HarnessError(f"{argv[0]} cannot be started: {error}") from error
        return cls(process, stderr, feed, hear_out)

    @property
    def pid(self) -> int:
        """QEMU's process id, the same from start to end: setpriv replaces itself by QEMU."""
        return self._process.pid

    def running(self) -> bool:
        """Whether QEMU is running; once this is False, its `QemuExit` is in the feed."""
        return not self._ended.is_set()

    def wait(self, timeout: float) -> int | None:
        """Waits up to `timeout` seconds for the end; returns the exit status (negative: a signal), None if still running."""
        self._ended.wait(timeout)
        return self._status

    def waited_for_cpu(self) -> float:
        """The seconds for which its busiest thread could have run, but the host gave its CPUs to others, or had none itself.

        Source: the second figure of /proc/PID/task/TID/schedstat (kernel, Documentation/scheduler/sched-stats.rst), and what a
        hypervisor beneath this host took meanwhile, of which a thread that runs knows nothing.
        """
        if not self.running():
            return 0.0
        delays = [0.0]
        for figures in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            # A thread may end meanwhile, and not every kernel has these statistics.
            with contextlib.suppress(OSError, IndexError, ValueError):
                delays.append(int(figures.read_text().split()[1]) / 1e9)
        # A thread may wait for a CPU that was taken itself.
        return min(max(delays) + max(0.0, _stolen() - self._stolen_before), time.monotonic() - self._began)

    def cpu_seconds(self) -> float:
        """The CPU time that QEMU has used, 0 once it has ended; source: proc_pid_stat(5), fields 14 and 15."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return 0.0

    def kill(self) -> None:
        """Kills QEMU if it runs and waits until it is reaped; raises HarnessError if that takes more than 10 seconds."""
        self._process.kill()
        if not self._ended.wait(_KILL_SECONDS):
            raise HarnessError(f"QEMU (process {self.pid}) is still there {_KILL_SECONDS:.0f} s after SIGKILL")

    def _reap(self) -> None:
        while not self._has_ended():
            pass
        status = self._process.wait()
        self._hear_out()
        self._feed.publish(QemuExit(status, self._words()))
        self._status = status
        self._ended.set()

    def _has_ended(self) -> bool:
        """Waits until the process ends, is stopped or continues; publishes the latter two. Returns whether it has ended."""
        try:
            changed = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOWAIT)
        except ChildProcessError:
            # Whoever killed it has reaped it.
            return True
        if changed is None or changed.si_code not in (os.CLD_STOPPED, os.CLD_CONTINUED):
            return True
        # A change that was waited for with WNOWAIT would be reported again.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        self._feed.publish(QemuContinued() if changed.si_code == os.CLD_CONTINUED else QemuStopped())
        return False

    def _words(self) -> str:
        try:
            with self._stderr.open("rb") as output:
                size = output.seek(0, 2)
                output.seek(max(0, size - _TAIL_BYTES))
                return output.read().decode(errors="replace")
        except OSError as error:
            return f"(what QEMU wrote is not readable: {error})"


def _stolen() -> float:
    """The seconds that a hypervisor took from each CPU of this host since it booted, on average (proc_stat(5), steal)."""
    try:
        steal = int(_STAT.read_text().split()[8])
    except (OSError, IndexError, ValueError):
        return 0.0
    return steal / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
