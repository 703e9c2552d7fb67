"""What a person sees of a qualification while it runs."""

import io
import time
from contextlib import closing

from rich.console import Console

from harness.watch import Watch


def test_a_person_sees_what_runs_and_how_far_its_node_is() -> None:
    terminal = io.StringIO()
    with closing(Watch(Console(file=terminal, force_terminal=True, width=300))) as watch:
        watch.begin("plain", 1, 2, 300)
        watch.see({"dhcp.py::test_it": time.time() - 7}, [], 5, {"test_it": "node-1: kernel after 4 s"})
        # Until the line is drawn anew.
        time.sleep(0.5)
    assert "1/2 plain: 0 of 5 tests; test_it 7 s (node-1: kernel after 4 s); " in terminal.getvalue()
    assert "elapsed, about 5 min left" in terminal.getvalue()
