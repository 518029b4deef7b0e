"""Running programs: an error names the command and carries what it said."""

import shlex
import subprocess

from installer.errors import InstallError
from installer.progress import say


def run(*command, stdin=None, **options):
    """Runs a command and returns its output. `stdin` may hold secrets: it is never shown."""
    command = [str(word) for word in command]
    feed = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              **feed, **options)
    except OSError as error:
        raise InstallError(f"cannot run {command[0]}") from error
    if done.returncode != 0:
        said = "\n  ".join(done.stdout.strip().splitlines()[-20:])
        raise InstallError(f"`{shlex.join(command)}` ended with {done.returncode}:\n  {said}")
    return done.stdout


def stream(*command, env):
    """Runs a long command and passes its lines on to the console as they come."""
    command = [str(word) for word in command]
    last = []
    with subprocess.Popen(command, text=True, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as child:
        for line in child.stdout:
            say("  " + line.rstrip())
            last = (last + [line.rstrip()])[-5:]
    if child.returncode != 0:
        raise InstallError(f"{command[0]} ended with {child.returncode}: {' / '.join(last)}")
