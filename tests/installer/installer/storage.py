"""Disks as the kickstart wants them: which may be touched, cleared, partitioned, formatted, mounted."""

from installer import disks, layout
from installer.errors import InstallError
from installer.process import run
from installer.progress import step


class Storage:
    """What was decided about disks; made by `plan`, carried out by `apply`."""

    def __init__(self, boot_disk, label_of, partitions):
        self.boot_disk = boot_disk
        self.label_of = label_of
        self.partitions = partitions

    @property
    def mounted(self):
        """The partitions with a place in the file system, outermost first."""
        own = [partition for partition in self.partitions if partition.mount_point.startswith("/")]
        return sorted(own, key=lambda partition: (partition.mount_point.rstrip("/").count("/"), partition.mount_point))

    @property
    def drivers(self):
        """The kernel modules without which the root cannot be found."""
        return next(partition for partition in self.partitions if partition.mount_point == "/").disk.drivers()


def plan(kickstart):
    """Decides everything before anything is written."""
    usable = _usable_disks(kickstart.ignoredisk)
    parts = _parts_by_disk(kickstart.partition.partitions, usable)
    label_of, partitions = {}, []
    for disk, own in parts.items():
        _check_may_clear(kickstart, disk)
        own_partitions = layout.lay_out(own, disk)
        label_of[disk] = _label(kickstart.clearpart, own_partitions)
        partitions += own_partitions
    boot_disk = _boot_disk(kickstart.bootloader, partitions, usable)
    if label_of.get(boot_disk) == "gpt" and not any(p.kind == "biosboot" and p.disk is boot_disk for p in partitions):
        raise InstallError(f"a GPT disk that a BIOS boots needs `part biosboot --fstype=biosboot --size=1` on {boot_disk}")
    return Storage(boot_disk, label_of, partitions)


def apply(storage, target):
    """Writes partition tables and file systems, and mounts them."""
    for disk, label in storage.label_of.items():
        own = [partition for partition in storage.partitions if partition.disk is disk]
        with step(f"partitioning {disk}, {label}: "
                  + ", ".join(f"{partition.mount_point} {partition.size_mib} MiB" for partition in own)):
            run("wipefs", "--all", "--force", *disk.partitions(), disk.device)
            active = next((p for p in own if p.mount_point == "/boot"), None) or \
                next((p for p in own if p.mount_point == "/"), None)
            run("sfdisk", "--quiet", "--wipe=always", "--wipe-partitions=always", disk.device,
                stdin=layout.table(own, label, active))
            run("udevadm", "settle", "--timeout=60")
    for partition in storage.partitions:
        _format(partition)
    for partition in storage.mounted:
        target.mount(partition.device, partition.mount_point, partition.options or None)


def fstab(storage):
    """The installed system's /etc/fstab, by UUID."""
    lines = []
    for partition in storage.mounted:
        check = 1 if partition.mount_point == "/" else 2
        lines.append((_uuid(partition), partition.mount_point, partition.kind, partition.options or "defaults", check))
    for partition in storage.partitions:
        if partition.kind == "swap":
            lines.append((_uuid(partition), "none", "swap", partition.options or "defaults", 0))
    return "".join(f"UUID={uuid} {place} {kind} {options} 0 {check}\n" for uuid, place, kind, options, check in lines)


def _usable_disks(ignoredisk):
    usable = disks.all_disks()
    if ignoredisk.onlyuse:
        usable = [disk for name in ignoredisk.onlyuse for disk in disks.find(name, usable)]
    elif ignoredisk.ignoredisk:
        ignored = [disk for name in ignoredisk.ignoredisk for disk in disks.find(name, usable)]
        usable = [disk for disk in usable if disk not in ignored]
    if not usable:
        raise InstallError("no disk is left to install on")
    return list(dict.fromkeys(usable))


def _parts_by_disk(parts, usable):
    if not parts:
        raise InstallError("the kickstart has no part lines: this installer needs them")
    if not any(data.mountpoint == "/" for data in parts):
        raise InstallError("the kickstart has no `part /`")
    by_disk = {}
    for data in parts:
        disk = disks.find_one(data.disk, usable) if data.disk else usable[0]
        by_disk.setdefault(disk, []).append(data)
    return by_disk


def _check_may_clear(kickstart, disk):
    """As in Anaconda: a disk with a partition table is touched only when clearpart covers it, a bare one when told so."""
    clearpart = kickstart.clearpart
    named = [d for name in clearpart.drives for d in disks.find(name, disks.all_disks())] if clearpart.drives else []
    cleared = clearpart.type is not None and clearpart.type > 0 and \
        (not clearpart.drives or any(d.name == disk.name for d in named))
    if disk.partitions() and not cleared:
        raise InstallError(f"{disk} has partitions and clearpart does not cover it: clearpart --all --drives={disk.name}")
    if disk.label() is None and not (kickstart.zerombr.zerombr or (cleared and clearpart.initAll)):
        raise InstallError(f"{disk} has no partition table: say zerombr or clearpart --initlabel to make one")


def _label(clearpart, partitions):
    wanted = {"gpt": "gpt", "msdos": "dos", "": None, None: None}.get(clearpart.disklabel, clearpart.disklabel)
    if wanted not in (None, "gpt", "dos"):
        raise InstallError(f"clearpart --disklabel={wanted}: this installer knows gpt and msdos")
    has_biosboot = any(partition.kind == "biosboot" for partition in partitions)
    return wanted or ("gpt" if has_biosboot else "dos")


def _boot_disk(bootloader, partitions, usable):
    if bootloader.bootDrive:
        return disks.find_one(bootloader.bootDrive, usable)
    places = {partition.mount_point: partition.disk for partition in partitions}
    return places.get("/boot") or places["/"]


def _format(partition):
    if partition.kind == "biosboot":
        return
    label = ("-L", partition.label) if partition.label else ()
    with step(f"formatting {partition.device} as {partition.kind} for {partition.mount_point}"):
        if partition.kind == "swap":
            run("mkswap", *label, partition.device)
        else:
            run(f"mkfs.{partition.kind}", "-q", "-F", *label, partition.device)


def _uuid(partition):
    return run("blkid", "--probe", "--match-tag", "UUID", "--output", "value", partition.device).strip()
