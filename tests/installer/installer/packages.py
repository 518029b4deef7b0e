"""`%packages`: Debian's packages from the enterprise's repository, by mmdebstrap.

Anaconda's options keep their meaning: recommended packages come along unless --exclude-weakdeps says otherwise, and what
a file system or the boot loader needs is added without being asked.
"""

import os
import shutil

from installer.errors import InstallError
from installer.process import stream
from installer.progress import step

SUITE = "bookworm"
CORE = ["systemd-sysv", "udev", "kmod", "mount", "passwd", "login"]
KERNEL = "linux-image-amd64"
BOOT_LOADER = ["grub-pc-bin", "grub2-common"]
FILE_SYSTEMS = {"ext2": "e2fsprogs", "ext3": "e2fsprogs", "ext4": "e2fsprogs"}
MERGE_USR = 'for place in bin sbin lib lib64; do mkdir -p "$1/usr/$place"; ln -s "usr/$place" "$1/$place"; done'
# What mmdebstrap leaves of its options in the target, where they would go on to hold.
LEFT_OVER = ["/etc/apt/apt.conf.d/99mmdebstrap", "/etc/dpkg/dpkg.cfg.d/99mmdebstrap", "/etc/dpkg/dpkg.cfg.d/kickstart"]
FIRST_FILES = "/run/installer/first"
# dpkg makes the disk wait three thousand times, for a state that is worth nothing until the installation is whole; this
# library spares it that. The target's own programs need it at the same place as the installer's while they are run.
NO_WAITING = "/usr/lib/x86_64-linux-gnu/libeatmydata.so"


def check(kickstart):
    """Refuses what names no Debian packages."""
    packages = kickstart.packages
    if packages.groupList or packages.excludedGroupList or packages.environment:
        names = [f"@{group.name}" for group in packages.groupList + packages.excludedGroupList]
        raise InstallError(f"%packages: {', '.join(names) or packages.environment}: Debian has no groups, "
                           "name the packages")
    for wrong, option in ((packages.nocore, "--nocore"), (packages.multiLib, "--multilib"),
                          (packages.handleMissing, "--ignoremissing"), (packages.default, "--default")):
        if wrong:
            raise InstallError(f"%packages {option}: this installer does not support it")
    if not kickstart.url.url:
        raise InstallError("the kickstart has no url --url=: it names the package repository")


def install(kickstart, storage, target, fstab):
    """Fills the target with packages."""
    names = _names(kickstart.packages, storage)
    drivers = "".join(f"{name}\n" for name in storage.drivers)
    first = {"etc/fstab": fstab, "etc/tiny-initramfs/modules": drivers, "etc/initramfs-tools/modules": drivers,
             "etc/dpkg/dpkg.cfg.d/kickstart": "".join(f"{line}\n" for line in _left_out(kickstart.packages))}
    with step(f"installing {len(names)} packages and what they need from {kickstart.url.url}"):
        _write_first_files(first)
        _copy_into(FIRST_FILES, NO_WAITING)
        stream("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory",
               "--include=" + ",".join(names), f"--setup-hook={MERGE_USR}; cp --recursive {FIRST_FILES}/. \"$1\"",
               "--skip=check/empty,check/qemu,cleanup/apt/lists,cleanup/reproducible",
               "--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold", *_apt_options(kickstart), SUITE, target.root,
               *_sources(kickstart), env=_environment())
    for place in [*LEFT_OVER, NO_WAITING]:
        target.path(place).unlink(missing_ok=True)


def _names(packages, storage):
    wanted = list(packages.packageList)
    if not any(name.startswith("linux-image-") for name in wanted):
        wanted.append(KERNEL)
    wanted += CORE + BOOT_LOADER + [FILE_SYSTEMS[p.kind] for p in storage.partitions if p.kind in FILE_SYSTEMS]
    wanted = [name for name in dict.fromkeys(wanted) if name not in packages.excludedList]
    return wanted + [f"{name}-" for name in packages.excludedList]


def _write_first_files(files):
    """Files that must be in place before packages are: what dpkg leaves out, what the kernel's initramfs is made of."""
    for inside, text in files.items():
        place = os.path.join(FIRST_FILES, inside)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as file:
            file.write(text)


def _copy_into(directory, file):
    place = directory + file
    os.makedirs(os.path.dirname(place), exist_ok=True)
    shutil.copy(file, place)


def _left_out(packages):
    """dpkg's options for --excludedocs and --instLangs. mmdebstrap would filter each package by them in Python."""
    options = []
    if packages.excludeDocs:
        options += [f"path-exclude=/usr/share/{place}/*" for place in ("doc", "man", "info")]
    if packages.instLangs is not None:
        options.append("path-exclude=/usr/share/locale/*/LC_MESSAGES/*")
        options += [f"path-include=/usr/share/locale/{lang}/LC_MESSAGES/*"
                    for lang in packages.instLangs.split(":") if lang]
    return options


def _apt_options(kickstart):
    options = []
    if not kickstart.packages.excludeWeakdeps:
        options.append('APT::Install-Recommends "true"')
    if kickstart.url.proxy:
        options.append(f'Acquire::http::Proxy "{kickstart.url.proxy}"')
    if kickstart.packages.retries is not None:
        options.append(f'Acquire::Retries "{kickstart.packages.retries}"')
    return [f"--aptopt={option}" for option in options]


def _sources(kickstart):
    urls = [kickstart.url.url] + [repo.baseurl for repo in kickstart.repo.repoList]
    return [f"deb [trusted=yes] {url} {SUITE} main" for url in urls]


def _environment():
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/",
            "DEBCONF_NONINTERACTIVE_SEEN": "true", "TMPDIR": "/tmp", "LD_PRELOAD": NO_WAITING}
