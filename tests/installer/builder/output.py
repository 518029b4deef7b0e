"""Directories that are complete or absent.

A result is written under a temporary name beside its place and renamed when it is finished. A stamp inside it holds
the SHA-256 of everything that it was made from, so that an unchanged result costs nothing and a changed input is never
overlooked. One lock per cache keeps two builders from working at the same time.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile

STAMP = ".inputs.sha256"


class Digest:
    """The running SHA-256 of a build's inputs; every input is framed by its name and length."""

    def __init__(self):
        self._hash = hashlib.sha256()

    def text(self, name, value):
        """Adds a named text."""
        self._frame(name, value.encode())

    def tree(self, name, path):
        """Adds a file, or every file below a directory, with names and executable bits."""
        path = pathlib.Path(path)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            if "__pycache__" in file.parts:
                continue
            mode = "x" if os.access(file, os.X_OK) else "-"
            self._frame(f"{name}/{file.relative_to(path)}:{mode}", file.read_bytes())

    def hexdigest(self):
        """The digest of all inputs so far."""
        return self._hash.hexdigest()

    def _frame(self, name, value):
        self._hash.update(f"{name}\0{len(value)}\0".encode())
        self._hash.update(value)


def is_current(directory, digest):
    """Whether `directory` is a complete result of these inputs."""
    try:
        return (pathlib.Path(directory) / STAMP).read_text().strip() == digest
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def replacing(directory, digest):
    """Yields an empty directory that takes the place of `directory` when the block ends well."""
    directory = pathlib.Path(directory).absolute()
    directory.parent.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(directory)
    draft = pathlib.Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=".draft", dir=directory.parent))
    draft.chmod(0o755)
    old = draft.with_suffix(".old")
    try:
        yield draft
        (draft / STAMP).write_text(digest + "\n")
        if directory.exists():
            directory.rename(old)
        draft.rename(directory)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(directory):
    if directory.exists() and any(directory.iterdir()) and not (directory / STAMP).exists():
        sys.exit(f"error: {directory} exists and was not made by this script: name another directory or remove it")


@contextlib.contextmanager
def locked(cache):
    """Holds the cache for this process alone; waits for another one to finish."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another build in {cache}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
