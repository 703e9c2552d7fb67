"""The time for which the harness itself was stopped is no time that a node was given."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.verdict.standstill import Standstill

PROJECT = Path(__file__).parents[2]
_STOPPED = 4.0
_WAITING = """
import math, sys, time
from harness.verdict.feed import Feed
from harness.verdict.judge import Judge, Patience
from harness.verdict.lost_time import LostTime
from harness.verdict.outcome import party
from harness.verdict.standstill import Standstill

lost = LostTime(Standstill().seconds)
outcome = Judge(Feed(), lost).wait(lambda _: False, Patience(1.5, math.inf), condition=lambda: print("waits", flush=True))
print(party(outcome), outcome.lost)
"""


def test_a_process_that_runs_does_not_stand_still() -> None:
    still = Standstill()
    time.sleep(1)
    assert still.seconds() == 0
    still.close()


def test_a_wait_in_which_the_harness_was_stopped_says_nothing_of_the_node() -> None:
    argv = [sys.executable, "-c", _WAITING]
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        waiting.send_signal(signal.SIGSTOP)
        time.sleep(_STOPPED)
        waiting.send_signal(signal.SIGCONT)
        *_, last = waiting.stdout
    assert last == "host 3.0\n", "no wait is extended to more than three times its length"
