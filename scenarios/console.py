"""A login on the serial port by agetty as a static pod (kiOS documentation, Static Pods: agetty)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.serial.console import Attachment
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
WITHIN = 60
# What a session has to survive. Its end is typed with quotes inside, so that the echo is not taken for the output.
FLOOD = "for i in $(seq 1 500); do echo \"<4>flood $i\" > /proc/self/fd/3; done 3> /dev/kmsg; echo flood''ed"
BINARY = "head -c 20000 /dev/urandom; echo; echo binary''-done"
LONG_LINE = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo long''-done"
WINDOW = "stty rows 50 cols 132; stty size; echo window''-done"


@pytest.mark.cold
def test_login_commands_and_a_hard_life(new_node: NewNode, image: Disk) -> None:
    """A login on the serial port survives floods and binary output; if not, a user loses it when it is needed most."""
    node = new_node(image, [MANIFESTS / "node.yaml", MANIFESTS / "agetty.yaml"])
    node.start()
    node.wait_until_ready()
    with logged_in(node, "root", "kios") as terminal:
        assert answer(terminal, "echo $((6 * 7)) $(whoami)") == "42 root"
        for trial, end in ((FLOOD, "flooded"), (BINARY, "binary-done"), (LONG_LINE, "long-done"), (WINDOW, "window-done")):
            terminal.sendline(trial)
            terminal.expect(end, timeout=WITHIN)
            assert answer(terminal, "echo still $((40 + 2))") == "still 42", f"the session did not outlive {trial}"
        assert answer(terminal, "stty size") == "50 132"


@contextmanager
def logged_in(node: Node, user: str, password: str) -> Iterator[Attachment]:
    """A session on the serial port; a wrong password is tried first, and must be refused."""
    with node.boot.console.attach() as terminal:
        for tried, then in (("wrong", "incorrect"), (password, r"[#$] ")):
            # A line end first: kernel messages may have pushed the prompt off the line.
            terminal.sendline()
            node.until(lambda: prompts(terminal), "a login prompt on the serial port", within=WITHIN)
            terminal.sendline(user)
            terminal.expect("Password: ", timeout=WITHIN)
            terminal.sendline(tried)
            terminal.expect(then, timeout=WITHIN)
        yield terminal


def prompts(terminal: Attachment) -> bool:
    """Whether the prompt for a user's name has come."""
    return terminal.expect(["login: ", pexpect.TIMEOUT], timeout=0) == 0


def answer(terminal: Attachment, command: str) -> str:
    """What a command prints, framed so that neither its echo nor the kernel's messages are taken for it."""
    terminal.sendline(f"echo '<''<'$({command})'>''>'")
    terminal.expect(re.compile(r"<<([^<>]*)>>"), timeout=WITHIN)
    assert isinstance(terminal.match, re.Match)
    return str(terminal.match[1])
