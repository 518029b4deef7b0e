"""How an installation ends. The installer is not PID 1, so it asks the kernel itself."""

import ctypes
import os
import signal

from pykickstart.constants import KS_REBOOT, KS_SHUTDOWN

from installer.progress import say

RB_AUTOBOOT = 0x01234567
RB_POWER_OFF = 0x4321FEDC


def finish(action):
    """Carries out `reboot`, `poweroff` or `halt`; without any of them, and for halt, waits for a person."""
    os.sync()
    if action == KS_REBOOT:
        say("complete, restarting")
        _reboot(RB_AUTOBOOT)
    elif action == KS_SHUTDOWN:
        say("complete, powering off")
        _reboot(RB_POWER_OFF)
    else:
        say("complete, this machine may be restarted")
    wait_forever()


def wait_forever():
    """Keeps the machine as it is: no shell, no restart."""
    while True:
        signal.pause()


def _reboot(how):
    library = ctypes.CDLL(None, use_errno=True)
    if library.reboot(ctypes.c_int(how - 2**32 if how >= 2**31 else how)) != 0:
        say(f"the kernel refused: {os.strerror(ctypes.get_errno())}")
