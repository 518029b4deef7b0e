"""%pre, %pre-install, %post and %onerror, run as Anaconda runs them."""

import os
import pathlib
import subprocess
import tempfile

from pykickstart.constants import (KS_SCRIPT_ONERROR, KS_SCRIPT_POST, KS_SCRIPT_PRE, KS_SCRIPT_PREINSTALL)

from installer.errors import InstallError
from installer.progress import say, step
from installer.target import ENVIRONMENT

NAMES = {KS_SCRIPT_PRE: "%pre", KS_SCRIPT_PREINSTALL: "%pre-install", KS_SCRIPT_POST: "%post",
         KS_SCRIPT_ONERROR: "%onerror"}
SHOWN_LINES = 20


def run_all(scripts, target):
    """Runs scripts in their order; one that fails stops the installation only if it says --erroronfail."""
    for script in scripts:
        run(script, target)


def run(script, target):
    """Runs one script; its output goes to its --log, else to a log of the installer."""
    name = f"{NAMES[script.type]} of line {script.lineno}"
    root = str(target.root) if script.inChroot else "/"
    with step(f"running {name}"), tempfile.TemporaryDirectory(prefix="ks-script-", dir=os.path.join(root, "tmp")) as work:
        file = pathlib.Path(work) / "script"
        file.write_text(script.script)
        file.chmod(0o700)
        log = _log_path(script, root, work)
        log.parent.mkdir(parents=True, exist_ok=True)
        inside = "/" + os.path.relpath(file, root)
        code = _execute(script.interp, inside, root, target, log)
        said = log.read_text(errors="replace").strip().splitlines()[-SHOWN_LINES:]
    if code == 0:
        return
    shown = "".join(f"\n  {line}" for line in said)
    if script.errorOnFail:
        raise InstallError(f"{name} ended with {code}:{shown}")
    say(f"{name} ended with {code}, which it allows:{shown}")


def _execute(interpreter, inside, root, target, log):
    environment = {**ENVIRONMENT, "ANA_INSTALL_PATH": str(target.root)}
    enter = ["chroot", root] if root != "/" else []
    with open(log, "wb") as output:
        try:
            return subprocess.run([*enter, *interpreter.split(), inside], check=False, cwd="/", env=environment,
                                  stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode
        except OSError as error:
            raise InstallError(f"cannot run the interpreter {interpreter}") from error


def _log_path(script, root, work):
    if script.logfile:
        return pathlib.Path(root) / script.logfile.lstrip("/")
    return pathlib.Path(work) / "log"
