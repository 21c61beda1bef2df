"""What every test needs of its surroundings."""

from __future__ import annotations

import signal

# A job that a script starts in the background ignores Ctrl-C, and so do the processes that it starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
