"""The installer's options, which are on the kernel command line as Anaconda's are."""

import shlex

from installer.errors import InstallError


def kickstart_path(command_line):
    """The path of `inst.ks=file:/path`; the last one wins, as in Anaconda."""
    values = [word.removeprefix("inst.ks=") for word in command_line.split() if word.startswith("inst.ks=")]
    if not values:
        raise InstallError("the kernel command line has no inst.ks=: add inst.ks=file:/path")
    scheme, colon, path = values[-1].partition(":")
    if not colon or scheme != "file" or not path.startswith("/"):
        raise InstallError(f"inst.ks={values[-1]}: this installer reads only inst.ks=file:/path")
    return "/" + path.lstrip("/")


def consoles(command_line):
    """The `console=` arguments, which the installed system inherits."""
    return [word for word in shlex.split(command_line) if word.startswith("console=")]
