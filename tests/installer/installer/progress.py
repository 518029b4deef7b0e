"""One line on the console for each step, with the seconds since the installer started."""

import contextlib
import time

_START = time.monotonic()


def say(text):
    """Prints a line with the elapsed time."""
    print(f"installer: [{time.monotonic() - _START:6.1f}] {text}", flush=True)


@contextlib.contextmanager
def step(text):
    """Announces a step and says at its end how long it took, when that was long enough to matter."""
    say(text)
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    if took >= 1:
        say(f"{text}: done in {took:.1f} s")
