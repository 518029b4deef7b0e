"""The system that is being installed, as a directory of the running one."""

import pathlib

from installer.errors import InstallError
from installer.process import run

MOUNT_POINT = pathlib.Path("/mnt/sysimage")
# Anaconda knows its target by both names.
OTHER_NAME = pathlib.Path("/mnt/sysroot")
API_MOUNTS = [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev"), ("devpts", "dev/pts"), ("tmpfs", "run")]


class Target:
    """Files and commands of the installed system."""

    def __init__(self, root=MOUNT_POINT):
        self.root = root
        self._mounted = []

    def path(self, inside):
        """The path by which the installer reaches a path of the target."""
        return self.root / str(inside).lstrip("/")

    def write(self, inside, text, mode=0o644):
        """Writes a whole file of the target."""
        place = self.path(inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def has(self, inside):
        """Whether a path of the target exists."""
        return self.path(inside).exists()

    def run(self, *command, stdin=None):
        """Runs a command of the target in the target."""
        return run("chroot", self.root, *command, stdin=stdin, env=ENVIRONMENT)

    def mount(self, device, inside, options=None, kind=None):
        """Mounts a file system into the target."""
        place = self.path(inside)
        place.mkdir(parents=True, exist_ok=True)
        run("mount", *(("-t", kind) if kind else ()), *(("-o", options) if options else ()), device, place)
        self._mounted.append(place)

    def mount_api_file_systems(self):
        """Gives programs in the target /proc, /sys, /dev and /run."""
        for kind, inside in API_MOUNTS:
            self.mount(kind, inside, kind=kind)

    def unmount_all(self):
        """Unmounts what was mounted, last first, so that the disk is complete."""
        run("sync")
        while self._mounted:
            place = self._mounted.pop()
            try:
                run("umount", "--recursive", place)
            except InstallError as error:
                raise InstallError(f"cannot unmount {place}, something still uses it") from error


ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "linux",
    "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
}
