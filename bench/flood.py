#!/usr/bin/env python3
"""Stands in for QEMU where the reader of a console is measured: prints a file as fast as it is read.

Takes a command line as QEMU does, of which it heeds `-flood FILE`, where the console is (`-chardev socket,...,path=` or
`,fd=`; else stdin and stdout) and whether the machine protocol is on stdin and stdout (`-qmp stdio`). It begins when a line
is typed on the console, so that no reader's clock runs while this program starts, and ends when its console is closed.
"""

import json
import os
import re
import socket
import sys
import threading
import tty
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Runs the command line."""
    if arguments == ["-version"]:
        print("QEMU emulator version 0.0.0")
        return
    told = " ".join(arguments)
    content = Path(arguments[arguments.index("-flood") + 1]).read_bytes()
    keyboard, screen = _console(told)
    if "-qmp stdio" in told:
        threading.Thread(target=_speak_qmp, daemon=True).start()
    os.read(keyboard, 64)
    view = memoryview(content)
    while view:
        view = view[os.write(screen, view) :]
    # A peer may look at its child when it has read everything: a machine goes on.
    while os.read(keyboard, 64):
        pass


def _console(told: str) -> tuple[int, int]:
    """The descriptors that the console is read from and written to."""
    if path := re.search(r"socket,id=\w+,path=(\S+)", told):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(path[1])
        end = connected.detach()
        return end, end
    if inherited := re.search(r"socket,id=console,fd=(\d+)", told):
        return int(inherited[1]), int(inherited[1])
    if os.isatty(0):
        # As QEMU does with a terminal.
        tty.setraw(0)
    return 0, 1


def _speak_qmp() -> None:
    print(json.dumps({"QMP": {"version": {}}}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"return": {}}), flush=True)
        if json.loads(line)["execute"] == "quit":
            os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
