"""From the kernel command line to the restart."""

import pathlib
import sys

from pykickstart.constants import KS_SCRIPT_ONERROR, KS_SCRIPT_POST, KS_SCRIPT_PREINSTALL

from installer import (accounts, arguments, bootloader, kickstart, network, pace, packages, power, scripts, settings,
                       storage)
from installer.errors import InstallError, chain
from installer.progress import say, step
from installer.target import OTHER_NAME, Target


def main():
    """Installs; whatever fails is on the console and the machine stays as it is."""
    target = Target()
    loaded = []
    try:
        install(target, loaded)
    except Exception as error:  # pylint: disable=broad-except
        report(error)
        run_onerror(loaded, target)
        power.wait_forever()
    power.finish(loaded[0].reboot.action)


def install(target, loaded):
    """The whole installation, in Anaconda's order."""
    pace.settle_down()
    command_line = pathlib.Path("/proc/cmdline").read_text(encoding="utf-8")
    path = arguments.kickstart_path(command_line)
    target.root.mkdir(parents=True, exist_ok=True)
    if not OTHER_NAME.is_symlink():
        OTHER_NAME.symlink_to(target.root)
    with step(f"reading {path}"):
        first = kickstart.pre_scripts(path)
    scripts.run_all(first, target)
    wishes = kickstart.read(path)
    loaded.append(wishes)
    for subject in (packages, network, accounts, bootloader):
        subject.check(wishes)
    disks = storage.plan(wishes)
    storage.apply(disks, target)
    scripts.run_all(kickstart.scripts(wishes, KS_SCRIPT_PREINSTALL), target)
    packages.install(wishes, disks, target, storage.fstab(disks))
    target.mount_api_file_systems()
    with step("configuring the system"):
        network.configure(wishes, target)
        accounts.configure(wishes, target)
        settings.configure(wishes, target)
    bootloader.install(wishes, disks, target, command_line)
    scripts.run_all(kickstart.scripts(wishes, KS_SCRIPT_POST), target)
    with step("writing everything to the disk"):
        target.unmount_all()


def report(error):
    """The error chain, and last the line that says it is over."""
    causes = list(chain(error))
    for cause in causes[1:]:
        say(f"caused by: {cause}")
    if not isinstance(error, InstallError):
        sys.excepthook(type(error), error, error.__traceback__)
    print(f"installer: FAILED: {': '.join(str(cause).splitlines()[0] for cause in causes if str(cause))}")


def run_onerror(loaded, target):
    """%onerror scripts, where the kickstart could be read."""
    for wishes in loaded:
        try:
            scripts.run_all(kickstart.scripts(wishes, KS_SCRIPT_ONERROR), target)
        except InstallError as error:
            say(f"%onerror failed too: {error}")


if __name__ == "__main__":
    main()
