"""One connection of a node's to the run's registry: QEMU starts this program for it, with the guest's end as its stdin.

`python relay.py PORT` passes bytes between stdin, a socket, and 127.0.0.1:PORT, until both have said all.
"""

import socket
import sys
import threading

_BYTES = 65536


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Passes bytes one way until the source has no more."""
    try:
        while data := source.recv(_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side has gone, so that nobody wants the rest.
        target.close()


def main(port: int) -> None:
    """Runs the program."""
    guest = socket.socket(fileno=sys.stdin.fileno())
    registry = socket.create_connection(("127.0.0.1", port))
    back = threading.Thread(target=pass_on, args=(registry, guest))
    back.start()
    pass_on(guest, registry)
    back.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
