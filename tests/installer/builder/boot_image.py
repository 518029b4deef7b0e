"""The enterprise's boot image: Debian's stock kernel and an initrd that dracut makes in a clean Debian root.

dracut runs in a chroot that holds only Debian's packages, so the image is the same on every build host. The root is
kept in the cache as long as its packages do not change; dracut works in a copy of it.
"""

import argparse
import gzip
import os
import pathlib
import shutil
import sys
import tempfile

from builder.debian import Archive, BuildError, run, run_bytes, write_repository
from builder.output import Digest, is_current, locked, replacing
from builder.room import ROOM, default_cache

ROOT_PACKAGES = [
    "coreutils", "cpio", "curl", "dracut-core", "e2fsprogs", "fdisk", "gzip", "iproute2", "kmod", "libeatmydata1",
    "mmdebstrap", "mount", "python3", "tar", "udev", "usr-is-merged", "util-linux", "xz-utils", "zstd",
]
KERNEL = "linux-image-amd64"
DRIVERS = [
    "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng", "virtio_console", "e1000", "e1000e", "igb",
    "ixgbe", "ahci", "ata_piix", "nvme", "sd_mod", "sr_mod", "tun", "wireguard", "ext4", "crc32c_generic",
    "crc32c_intel", "loop",
]
MODULES = ["base", "udev-rules", "kickstart-installer"]
COMPRESSORS = {
    "gzip": lambda data: gzip.compress(data, 9, mtime=0),
    "xz": lambda data: run_bytes("xz", "--check=crc32", "-T0", "-6", data=data),
    "zstd": lambda data: run_bytes("zstd", "-q", "-T0", "-19", data=data),
    "none": lambda data: data,
}


def main():
    """Entry point of `build-boot-image`."""
    arguments = _arguments()
    cache = arguments.cache.absolute()
    try:
        if os.geteuid() != 0:
            raise BuildError("the boot image is made in a chroot: run this as root")
        with locked(cache):
            _build(arguments, cache)
    except BuildError as error:
        sys.exit(f"error: {error}")


def _arguments():
    parser = argparse.ArgumentParser(prog="build-boot-image", description="Makes OUTDIR/vmlinuz and OUTDIR/initrd.img.")
    parser.add_argument("outdir", type=pathlib.Path, metavar="OUTDIR")
    parser.add_argument("--compress", choices=sorted(COMPRESSORS), default="zstd", help="of the initrd (zstd)")
    parser.add_argument("--early-microcode", action="store_true",
                        help="put an uncompressed archive with a dummy microcode file in front of the initrd")
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache(), metavar="DIR")
    return parser.parse_args()


def _build(arguments, cache):
    archive = Archive(cache / "apt")
    closure = archive.closure(ROOT_PACKAGES, without=["usrmerge"])
    version, package = archive.newest(KERNEL)
    image = _image_digest(closure, package, version)
    whole = Digest()
    whole.text("image", image)
    whole.text("form", f"{arguments.compress} {arguments.early_microcode}")
    if is_current(arguments.outdir, whole.hexdigest()):
        return
    plain = cache / "boot-image"
    if not is_current(plain, image):
        _build_plain(plain, image, archive, cache, package)
    with replacing(arguments.outdir, whole.hexdigest()) as draft:
        shutil.copy(plain / "vmlinuz", draft / "vmlinuz")
        initrd = COMPRESSORS[arguments.compress]((plain / "initrd.cpio").read_bytes())
        early = _early_microcode() if arguments.early_microcode else b""
        (draft / "initrd.img").write_bytes(early + initrd)
    print(f"{arguments.outdir}: vmlinuz {_mb(arguments.outdir / 'vmlinuz')}, "
          f"initrd.img {_mb(arguments.outdir / 'initrd.img')} ({arguments.compress}), kernel {version}")


def _image_digest(closure, package, version):
    inputs = Digest()
    for item in closure:
        inputs.text("package", str(item))
    inputs.text("kernel", f"{package} {version}")
    inputs.tree("requirements", ROOM / "requirements.txt")
    for part in ("builder", "dracut", "installer"):
        inputs.tree(part, ROOM / part)
    return inputs.hexdigest()


def _build_plain(plain, digest, archive, cache, package):
    """Makes vmlinuz and the uncompressed initrd, which every compressed form starts from."""
    root = _boot_root(archive, cache)
    kernel = archive.download(package)
    with replacing(plain, digest) as draft, tempfile.TemporaryDirectory(dir=cache, prefix="dracut.") as work:
        copy = pathlib.Path(work) / "root"
        print("making the initrd with dracut", file=sys.stderr)
        run("cp", "-a", root / "root", copy)
        unpack(kernel, copy)
        version = package.removeprefix("linux-image-")
        run("depmod", "-b", copy, version)
        _add_installer(copy)
        run_in(copy, "dracut", "--force", "--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode",
            "--reproducible", "--no-compress", "--modules", " ".join(MODULES), "--drivers", " ".join(DRIVERS),
            "--kver", version, "--tmpdir", "/var/tmp", "/initrd.cpio")
        _check_starts(copy / "initrd.cpio", pathlib.Path(work) / "unpacked")
        shutil.copy(copy / "initrd.cpio", draft / "initrd.cpio")
        shutil.copy(copy / "boot" / f"vmlinuz-{version}", draft / "vmlinuz")
        (draft / "initrd.cpio").chmod(0o644)


def unpack(deb, root):
    """Unpacks a package; unlike dpkg-deb -x, it goes through the root's /lib link."""
    contents = run_bytes("dpkg-deb", "--fsys-tarfile", deb)
    run_bytes("tar", "--extract", "--keep-directory-symlink", "--directory", root, data=contents)


def _check_starts(initrd, place):
    """dracut goes on when a file is missing; an installer that cannot start must not leave the build."""
    place.mkdir()
    run_bytes("cpio", "--quiet", "--extract", "--make-directories", data=initrd.read_bytes(), cwd=place)
    shutil.copy(ROOM / "example.ks", place / "example.ks")
    parse = "import installer.__main__ as main; main.kickstart.read('/example.ks')"
    run_in(place, "env", "PYTHONPATH=/usr/lib/kickstart-installer", "python3", "-c", parse)
    for program in ("mmdebstrap", "apt-get", "sfdisk", "mkfs.ext4"):
        run_in(place, program, "-V" if program == "mkfs.ext4" else "--version")


def run_in(root, *command):
    """Runs a command in a root with /proc, in a mount namespace of its own: nothing stays mounted."""
    enter = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
    run("unshare", "--mount", "sh", "-c", enter, "sh", root, *command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1"})


def _boot_root(archive, cache):
    """The clean Debian root with dracut and all that goes into the initrd."""
    debs = archive.fetch(ROOT_PACKAGES, without=["usrmerge"])
    inputs = Digest()
    for deb in debs:
        inputs.text("deb", deb.name)
    place = cache / "boot-root"
    if is_current(place, inputs.hexdigest()):
        return place
    print(f"making a Debian root of {len(debs)} packages for dracut", file=sys.stderr)
    with replacing(place, inputs.hexdigest()) as draft:
        write_repository(draft / "repository", debs)
        run("mmdebstrap", "--mode=root", "--variant=essential", "--include=" + ",".join(ROOT_PACKAGES),
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", draft / "root",
            f"deb [trusted=yes] copy:{draft}/repository bookworm main")
        shutil.rmtree(draft / "repository")
    return place


def _add_installer(root):
    """Puts the dracut module, the installer and pykickstart where dracut finds them, compiled."""
    shutil.copytree(ROOM / "dracut", root / "usr/lib/dracut/modules.d", dirs_exist_ok=True)
    library = root / "usr/lib/kickstart-installer"
    shutil.copytree(ROOM / "installer", library / "installer", ignore=shutil.ignore_patterns("__pycache__"))
    run("/usr/bin/python3", "-m", "pip", "install", "--quiet", "--no-compile", "--root-user-action=ignore",
        "--target", library, "--requirement", ROOM / "requirements.txt")
    for waste in [*library.glob("*.dist-info"), library / "bin", library / "share"]:
        shutil.rmtree(waste, ignore_errors=True)
    run_in(root, "python3", "-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash", "-b",
        "/usr/lib/kickstart-installer", "/usr/lib/python3.11")


def _early_microcode():
    """An uncompressed archive of the form that the kernel reads microcode from; its content is a dummy."""
    with tempfile.TemporaryDirectory() as work:
        file = pathlib.Path(work) / "kernel/x86/microcode/GenuineIntel.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(2048))
        for path in [file, *file.parents[:3]]:
            os.utime(path, (0, 0))
        names = "kernel\nkernel/x86\nkernel/x86/microcode\nkernel/x86/microcode/GenuineIntel.bin\n"
        return run_bytes("cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", "--reproducible",
                         data=names.encode(), cwd=work)


def _mb(path):
    return f"{path.stat().st_size / 1e6:.1f} MB"
