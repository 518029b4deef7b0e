"""From `part` lines to partitions: where each lies and how large it is. Nothing here touches a disk."""

from installer.errors import InstallError

MIB = 2**20
# The first MiB stays free for the partition table and GRUB's core; the last one for GPT's second table.
MARGIN_MIB = 1
PRIMARY_LIMIT = 4
GPT_TYPES = {"biosboot": "21686148-6449-6E6F-744E-656564454649", "swap": "0657FD6D-A4AB-43C4-84E5-0933C9B24BDA"}
GPT_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
MBR_TYPES = {"swap": "82"}
MBR_LINUX = "83"
FILE_SYSTEMS = {"ext2", "ext3", "ext4"}


class Partition:
    """One partition to make."""

    def __init__(self, data, disk, number, size_mib):
        self.mount_point = data.mountpoint
        self.disk = disk
        self.number = number
        self.size_mib = size_mib
        self.options = data.fsopts
        self.label = data.label
        self.kind = kind_of(data)

    @property
    def device(self):
        """Its device once the table is written."""
        return self.disk.partition(self.number)


def kind_of(data):
    """What goes onto a partition: swap, biosboot, or a file system."""
    if data.mountpoint in ("swap", "biosboot"):
        return data.mountpoint
    kind = data.fstype or "ext4"
    if not data.mountpoint.startswith("/") or kind not in FILE_SYSTEMS:
        raise InstallError(f"line {data.lineno}: part {data.mountpoint} --fstype={kind}: this installer makes "
                           f"{', '.join(sorted(FILE_SYSTEMS))}, swap and biosboot")
    return kind


def lay_out(parts, disk):
    """The partitions of one disk in the order of their lines; growing ones share what is left."""
    available = disk.size // MIB - 2 * MARGIN_MIB
    sizes = [_asked_size(data) for data in parts]
    free = available - sum(sizes)
    if free < 0:
        raise InstallError(f"the partitions of {disk} take {sum(sizes)} MiB, it has {available} MiB")
    growing = [index for index, data in enumerate(parts) if data.grow]
    for left in range(len(growing), 0, -1):
        # The most limited one takes its share first, and what it may not take goes to the others.
        index = min(growing, key=lambda candidate: _room(parts[candidate], sizes[candidate], free))
        growing.remove(index)
        more = min(free // left, _room(parts[index], sizes[index], free))
        sizes[index] += more
        free -= more
    return [Partition(data, disk, number, size) for number, (data, size) in enumerate(zip(parts, sizes), start=1)]


def table(partitions, label, active):
    """The script by which sfdisk writes the partition table."""
    if label == "dos" and len(partitions) > PRIMARY_LIMIT:
        raise InstallError(f"{len(partitions)} partitions on one disk need clearpart --disklabel=gpt")
    lines = [f"label: {label}"]
    for partition in partitions:
        kinds, other = (GPT_TYPES, GPT_LINUX) if label == "gpt" else (MBR_TYPES, MBR_LINUX)
        flag = ", bootable" if label == "dos" and partition is active else ""
        lines.append(f"size={partition.size_mib}MiB, type={kinds.get(partition.kind, other)}{flag}")
    return "\n".join(lines) + "\n"


def _asked_size(data):
    if not data.size and not data.grow:
        raise InstallError(f"line {data.lineno}: part {data.mountpoint} needs --size= or --grow")
    return data.size or 1


def _room(data, size, free):
    return free if not data.maxSizeMB else max(0, data.maxSizeMB - size)
