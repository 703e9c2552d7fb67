"""What every test here needs."""

import signal

# A shell has its jobs in the background ignore SIGINT, and all their children after them; some tests send it to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
