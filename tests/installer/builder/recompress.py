"""Debian packages with zstd inside instead of xz.

Files, control data and version stay Debian's; only the compression of the archive's members changes. An emulated machine
spends minutes on xz (each essential package is unpacked twice), and seconds on zstd.
"""

import lzma
import os

from builder.debian import BuildError, run_bytes

MAGIC = b"!<arch>\n"
HEADER = 60
# Above this level the kernel's package costs the builder a minute and saves a tenth.
LEVEL = 9


def with_zstd(deb, cache):
    """The path of the recompressed form of a .deb, made once."""
    cache.mkdir(parents=True, exist_ok=True)
    result = cache / deb.name
    if not result.exists():
        draft = cache / f".{deb.name}.{os.getpid()}"
        draft.write_bytes(_recompress(deb))
        draft.rename(result)
    return result


def _recompress(deb):
    data = deb.read_bytes()
    if not data.startswith(MAGIC):
        raise BuildError(f"{deb} is not an ar archive")
    made = [MAGIC]
    place = len(MAGIC)
    while place < len(data):
        header = data[place:place + HEADER]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        content = data[place + HEADER:place + HEADER + size]
        place += HEADER + size + size % 2
        if name.endswith(".tar.xz"):
            name = name.removesuffix(".xz") + ".zst"
            content = run_bytes("zstd", "-q", f"-{LEVEL}", "-T0", data=lzma.decompress(content))
        made += [f"{name:<16}".encode(), header[16:48], f"{len(content):<10}".encode(), header[58:60], content,
                 b"\n" * (len(content) % 2)]
    return b"".join(made)
