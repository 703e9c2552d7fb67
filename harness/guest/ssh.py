"""SSH into a node on which a pod runs sshd, with keys made for the node (RFC 4251)."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from harness.errors import HarnessError, NodeFailure
from harness.verdict.judge import Clock
from harness.verdict.outcome import delay, error

_TRY_SECONDS = 10.0
# For a try that begins as the time ends: no time at all would mean something else to a socket.
_LEAST_TRY_SECONDS = 0.1
_TRY_AGAIN_SECONDS = 0.2
_REFUSED = "Authentication failed."
# What paramiko's threads log with tracebacks are the ends of tries, which `connect` raises or tries again after.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def connect(
    port: int,
    host: Path,
    user: Path,
    within: float,
    abort: Callable[[], None],
    lost: Callable[[], float] = lambda: 0.0,
) -> paramiko.SSHClient:
    """Logs in as root on 127.0.0.1:`port`, which is forwarded to the node; the caller closes what is returned.

    `host` and `user` are files with the private keys of the node, which identify it, and of the user. Tries until sshd
    answers, because the forward accepts connections before anything listens in the node. Raises NodeFailure after `within`
    seconds, or at once if the node shows another key than its own or refuses the user's. `abort` is called after each try, and
    ends the wait by raising. `lost` says for how many seconds the host has kept QEMU from running so far: the wait is extended
    by them, and is a HarnessError if it lost most of its time.
    """
    clock = Clock.of(within, lost)
    client = paramiko.SSHClient()
    client.get_host_keys().add(f"[127.0.0.1]:{port}", "ssh-ed25519", _key(host))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    while True:
        patience = min(_TRY_SECONDS, max(_LEAST_TRY_SECONDS, clock.left()))
        try:
            client.connect(
                "127.0.0.1",
                port,
                "root",
                pkey=_key(user),
                allow_agent=False,
                look_for_keys=False,
                timeout=patience,
                banner_timeout=patience,
                auth_timeout=patience,
            )
            return client
        except (OSError, EOFError, paramiko.SSHException) as early:
            client.close()
            if _is_refusal(early):
                raise NodeFailure(f"SSH: {early}") from early
            abort()
            if over := clock.over():
                words = f"SSH: nobody let in within {within:.0f} s{delay(over)}; the last try ended with: {early}"
                raise error(over, words) from early
            time.sleep(_TRY_AGAIN_SECONDS)


def _is_refusal(failure: Exception) -> bool:
    """Whether the answer was no: a timeout or a lost connection during authentication raises the same class."""
    if isinstance(failure, (paramiko.BadHostKeyException, paramiko.BadAuthenticationType)):
        return True
    return isinstance(failure, paramiko.AuthenticationException) and str(failure) == _REFUSED


def _key(private: Path) -> paramiko.Ed25519Key:
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(private))
    except (OSError, paramiko.SSHException) as broken:
        raise HarnessError(f"The SSH key {private} of the run cannot be read: {broken}") from broken
