"""Debian packages by way of an apt that has its own state.

The archives are the ones that the machine's apt already uses (only those of Debian's own bookworm), the dpkg status is
empty, so a closure holds everything that a bare disk needs and nothing depends on what is installed here.
"""

import hashlib
import lzma
import pathlib
import re
import shlex
import subprocess
import sys
import time

SUITE = "bookworm"
INDEX_AGE_S = 24 * 3600


class BuildError(Exception):
    """What was attempted, on what, and what to do."""


def run(*command, capture=False, **options):
    """Runs a command; a failure names the command and shows what it said."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE if capture else subprocess.STDOUT, **options)
    except FileNotFoundError as missing:
        raise BuildError(f"cannot run {command[0]}: install the packages of packages.txt") from missing
    if done.returncode != 0:
        said = ((done.stdout or "") + (done.stderr or "")).strip()
        raise BuildError(f"`{shlex.join(command)}` ended with {done.returncode}:\n{said}")
    return done.stdout


def run_bytes(*command, data=b"", **options):
    """Runs a filter: bytes in, bytes out."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, check=False, input=data, capture_output=True, **options)
    except FileNotFoundError as missing:
        raise BuildError(f"cannot run {command[0]}: install the packages of packages.txt") from missing
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(command)}` ended with {done.returncode}:\n{done.stderr.decode().strip()}")
    return done.stdout


class Package:
    """One package of a closure, as apt would fetch it."""

    def __init__(self, file, size):
        self.file = file
        self.size = size

    def __str__(self):
        return f"{self.file} {self.size}"


class Archive:
    """apt with its own lists, cache and empty status, below `directory`."""

    def __init__(self, directory):
        self.directory = directory
        self.debs = directory / "debs"
        for part in ("lists/partial", "empty/partial", "debs/partial", "etc"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "status").touch()

    def closure(self, packages, without=()):
        """The packages that installing these on a bare disk takes, essential ones included."""
        self._refresh(force=False)
        return self._print_uris(packages, without)

    def fetch(self, packages, without=()):
        """Downloads a closure and returns the paths of its .deb files."""
        wanted = self.closure(packages, without)
        try:
            self._install("--download-only", packages=packages, without=without)
        except BuildError:
            # A mirror drops a version when it has a newer one: look again before giving up.
            self._refresh(force=True)
            wanted = self._print_uris(packages, without)
            self._install("--download-only", packages=packages, without=without)
        return [self.debs / package.file for package in wanted]

    def download(self, package):
        """Downloads one package without what it depends on."""
        self._refresh(force=False)
        run("apt-get", *self._options(), "download", package, cwd=self.debs)
        name = f"{package}_*.deb"
        found = sorted(self.debs.glob(name), key=lambda deb: deb.stat().st_mtime)
        if not found:
            raise BuildError(f"apt-get download {package} left no {name} in {self.debs}")
        return found[-1]

    def newest(self, package):
        """`name=version` of the newest version of a package, and the same of what it depends on first."""
        self._refresh(force=False)
        shown = run("apt-cache", *self._options(), "show", "--no-all-versions", package, capture=True)
        version = re.search(r"^Version: (.*)$", shown, re.M)
        depends = re.search(r"^Depends: ([a-z0-9.+-]+)", shown, re.M)
        if not version:
            raise BuildError(f"no package {package} in the archives that apt knows")
        return version[1], depends[1] if depends else None

    def _print_uris(self, packages, without):
        shown = self._install("--print-uris", "-o", f"Dir::Cache::archives={self.directory}/empty",
                              packages=packages, without=without)
        lines = re.findall(r"^'[^']+' (\S+\.deb) (\d+) ", shown, re.M)
        if not lines:
            raise BuildError(f"apt found no closure of {' '.join(packages)}:\n{shown}")
        return sorted((Package(file, int(size)) for file, size in lines), key=lambda package: package.file)

    def _install(self, *how, packages, without):
        essential = "?narrow(?archive(^stable|^oldstable|" + SUITE + "),?essential)"
        return run("apt-get", *self._options(), "--yes", "-o", "APT::Install-Recommends=false", *how, "install",
                   "?essential", *packages, *(f"{name}-" for name in without), capture=True)

    def _refresh(self, force):
        stamp = self.directory / "lists.time"
        fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < INDEX_AGE_S
        if fresh and not force:
            return
        (self.directory / "sources.list").write_text(_host_sources())
        run("apt-get", *self._options(), "--error-on=any", "update")
        stamp.touch()

    def _options(self):
        own = {
            "Dir::Etc::SourceList": self.directory / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self.directory / "lists", "Dir::State::status": self.directory / "status",
            "Dir::Cache::archives": self.debs, "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": "amd64", "APT::Architectures": "amd64", "Acquire::Languages": "none",
            "APT::Sandbox::User": "root", "APT::Keep-Downloaded-Packages": "true",
            "DPkg::Post-Invoke": "", "APT::Update::Post-Invoke": "", "APT::Get::Assume-Yes": "true",
        }
        return [word for name, value in own.items() for word in ("-o", f"{name}={value}")]


def _host_sources():
    """The machine's own sources of Debian bookworm as one-line entries."""
    shown = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(COMPONENT)",
                "Created-By: Packages", capture=True)
    lines = set()
    for line in shown.splitlines():
        origin, uri, codename, component = line.split("|")
        if origin == "Debian" and codename.split("-")[0] == SUITE and component == "main":
            lines.add(f"deb {uri} {codename} {component}")
    if not lines:
        sys.exit(f"error: this machine's apt knows no Debian {SUITE}: add it to its sources and run apt-get update")
    return "\n".join(sorted(lines)) + "\n"


def write_repository(destination, debs):
    """Makes `destination` a plain repository of these .deb files: pool/, dists/ with Packages and Release."""
    pool = destination / "pool"
    index = destination / "dists" / SUITE / "main" / "binary-amd64"
    pool.mkdir(parents=True)
    index.mkdir(parents=True)
    for deb in debs:
        # apt writes an epoch as %3a; pools leave it out of the name, and no server has to quote it.
        name = re.sub(r"_\d+%3a", "_", pathlib.Path(deb).name)
        _link_or_copy(deb, pool / name)
    packages = run("apt-ftparchive", "packages", "pool", cwd=destination, capture=True).encode()
    (index / "Packages").write_bytes(packages)
    (index / "Packages.xz").write_bytes(lzma.compress(packages))
    _write_release(destination / "dists" / SUITE, index)


def _link_or_copy(source, target):
    run("cp", "--link", source, target) if source.stat().st_dev == target.parent.stat().st_dev \
        else run("cp", source, target)


def _write_release(suite, index):
    sums = []
    for name in ("Packages", "Packages.xz"):
        data = (index / name).read_bytes()
        place = (index / name).relative_to(suite)
        sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {place}")
    (suite / "Release").write_text(
        f"Origin: enterprise\nLabel: enterprise\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\n"
        f"Components: main\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n" + "\n".join(sums) + "\n")
