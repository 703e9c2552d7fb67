"""Starts a program that can connect over TCP only to the named ports: `confine.py [PORT...] -- PROGRAM...`.

Through QEMU's user network, an untrusted guest could reach whatever this host reaches: services on its loopback, the metadata
of a cloud. QEMU's own `restrict` option would also remove the router from the lease. So the kernel denies connections
(landlock(7), ABI 4, Linux 6.7). UDP, and so DNS, is not covered.
"""

import ctypes
import os
import struct
import sys

# The same on every architecture (kernel, include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
# linux/landlock.h, linux/prctl.h
_VERSION = 1
_RULE_NET_PORT = 2
_CONNECT_TCP = 1 << 1
_KNOWS_NET = 4
_NO_NEW_PRIVS = 38


def supported() -> bool:
    """Whether this kernel can deny connections."""
    return _call(_CREATE_RULESET, None, 0, _VERSION) >= _KNOWS_NET


def confine(ports: list[int]) -> None:
    """Permanently denies this process TCP connections to other ports; does nothing if the kernel cannot."""
    if not supported():
        return
    # struct landlock_ruleset_attr: the handled rights on files (none), and on the network.
    attributes = struct.pack("QQ", 0, _CONNECT_TCP)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    done = [ruleset >= 0]
    done += [_call(_ADD_RULE, ruleset, _RULE_NET_PORT, struct.pack("QQ", _CONNECT_TCP, port), 0) == 0 for port in ports]
    done += [ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0]
    if not all(done) or _call(_RESTRICT_SELF, ruleset, 0) != 0:
        raise SystemExit("confine: the kernel refuses to deny connections")
    os.close(ruleset)


def _call(number: int, *arguments: int | bytes | None) -> int:
    return int(ctypes.CDLL(None).syscall(number, *arguments))


if __name__ == "__main__":
    split = sys.argv.index("--")
    confine([int(port) for port in sys.argv[1:split]])
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
