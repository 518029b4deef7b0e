"""Disks, and the names that a kickstart may give them."""

import fnmatch
import os
import pathlib

from installer.errors import InstallError
from installer.process import run

SYS_BLOCK = pathlib.Path("/sys/block")
NOT_DISKS = ("loop", "ram", "zram", "sr", "fd", "md", "dm-", "nbd")
SECTOR = 512
NOT_DRIVERS = {"pcieport"}


class Disk:
    """A whole disk by its kernel name."""

    def __init__(self, name):
        self.name = name
        self.device = f"/dev/{name}"
        self.size = int((SYS_BLOCK / name / "size").read_text()) * SECTOR

    def __str__(self):
        return f"{self.device} ({self.size / 2**30:.1f} GiB)"

    def partition(self, number):
        """The device of a partition: vda1, nvme0n1p1."""
        joint = "p" if self.name[-1].isdigit() else ""
        return f"{self.device}{joint}{number}"

    def partitions(self):
        """The devices of the partitions that the kernel sees now."""
        return [f"/dev/{entry.name}" for entry in sorted((SYS_BLOCK / self.name).iterdir())
                if (entry / "partition").exists()]

    def label(self):
        """The kind of its partition table, or None."""
        return run("lsblk", "--nodeps", "--noheadings", "--output", "PTTYPE", self.device).strip() or None

    def drivers(self):
        """The kernel modules between this disk and its bus."""
        place = (SYS_BLOCK / self.name / "device").resolve()
        names = []
        while place != pathlib.Path("/sys/devices") and place != place.parent:
            module = place / "driver" / "module"
            if module.exists() and module.resolve().name not in NOT_DRIVERS:
                names.append(module.resolve().name)
            place = place.parent
        return list(dict.fromkeys(reversed(names)))


def all_disks():
    """Every disk that could take an installation."""
    run("udevadm", "settle", "--timeout=60")
    disks = [Disk(entry.name) for entry in sorted(SYS_BLOCK.iterdir()) if not entry.name.startswith(NOT_DISKS)]
    return [disk for disk in disks if disk.size and (SYS_BLOCK / disk.name / "ro").read_text().strip() == "0"]


def find(name, disks):
    """The disks that a name of a kickstart means: sda, /dev/sda, disk/by-id/..., or a pattern of these."""
    wanted = name.removeprefix("/dev/")
    found = [disk for disk in disks if wanted in _names(disk) or any(fnmatch.fnmatchcase(own, wanted)
                                                                     for own in _names(disk))]
    if not found:
        known = "; ".join(f"{disk} = {', '.join(sorted(_names(disk) - {disk.name}))}" for disk in disks)
        raise InstallError(f"no disk is called {name}: there are {known or 'none'}")
    return found


def find_one(name, disks):
    """The one disk of that name."""
    found = find(name, disks)
    if len(found) > 1:
        raise InstallError(f"{name} means {len(found)} disks: {', '.join(map(str, found))}")
    return found[0]


def _names(disk):
    names = {disk.name}
    for directory in ("by-id", "by-path"):
        place = pathlib.Path("/dev/disk") / directory
        if place.is_dir():
            names |= {f"disk/{directory}/{link.name}" for link in place.iterdir()
                      if os.path.realpath(link) == disk.device}
    serial = SYS_BLOCK / disk.name / "serial"
    if disk.name.startswith("vd") and serial.exists():
        names.add(f"disk/by-id/virtio-{serial.read_text().strip()}")
    return names
