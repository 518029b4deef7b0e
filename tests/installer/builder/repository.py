"""The enterprise's package repository: exactly the packages that its installations take, in an apt repository.

It is not signed. Machines that install from it reach it through WireGuard only, from an address that the enterprise
itself handed out, and name it with `[trusted=yes]`; a key made by this very script would prove no more than that.
"""

import argparse
import pathlib
import sys

from builder.debian import Archive, BuildError, write_repository
from builder.recompress import with_zstd
from builder.output import Digest, is_current, locked, replacing
from builder.room import ROOM, default_cache

# Bookworm's systems have a merged /usr; the package that would merge an old one drags all of perl in.
WITHOUT = ["usrmerge"]


def main():
    """Entry point of `build-repository`."""
    parser = argparse.ArgumentParser(prog="build-repository", description="Makes OUTDIR an apt repository.")
    parser.add_argument("outdir", type=pathlib.Path, metavar="OUTDIR")
    parser.add_argument("--cache", type=pathlib.Path, default=default_cache(), metavar="DIR")
    arguments = parser.parse_args()
    cache = arguments.cache.absolute()
    try:
        with locked(cache):
            _build(arguments.outdir, Archive(cache / "apt"), cache / "zstd")
    except BuildError as error:
        sys.exit(f"error: {error}")


def _build(outdir, archive, recompressed):
    packages = _package_names(ROOM / "repository-packages.txt")
    closure = archive.closure(packages, WITHOUT)
    inputs = Digest()
    for package in closure:
        inputs.text("package", str(package))
    inputs.tree("builder", ROOM / "builder")
    digest = inputs.hexdigest()
    if is_current(outdir, digest):
        return
    debs = [with_zstd(deb, recompressed) for deb in archive.fetch(packages, WITHOUT)]
    with replacing(outdir, digest) as draft:
        write_repository(draft, debs)
    print(f"{outdir}: {len(debs)} packages, {sum(deb.stat().st_size for deb in debs) / 1e6:.1f} MB")


def _package_names(path):
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]
