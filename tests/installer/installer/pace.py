"""Two settings of the installer's own kernel that make emulated processors several times faster.

A translating emulator caches code by address, so programs that land at a new address at each start are translated at
each start: an installation, which starts thousands of them, took four times as long. And processes that wander between
emulated processors pay for each move. Neither setting reaches the installed system.
"""

import os
import pathlib

RANDOMIZE = pathlib.Path("/proc/sys/kernel/randomize_va_space")


def settle_down():
    """Fixed addresses and one processor for the installer and all that it starts; the others are free for the network."""
    RANDOMIZE.write_text("0\n", encoding="ascii")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
