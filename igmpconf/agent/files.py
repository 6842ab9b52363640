"""What the state directory asks of the operating system, call by call, and the one way in which a file is replaced.

`Files` is the port: whoever wants to see, count or refuse these calls passes another one to the journal.
"""

from __future__ import annotations

import os
from pathlib import Path


class Files:
    """The calls that change a disk.  Each may raise OSError."""

    def create(self, path: Path) -> int:
        """An empty file that only we may read; a descriptor to write to it."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many octets were taken, at least one."""
        return os.write(descriptor, data)

    def flush(self, descriptor: int) -> None:
        """What was written is on the disk when this returns."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """A file that is not there is no error."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """With its parents; one that is there is no error."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def flush_directory(self, path: Path) -> None:
        """The names in `path` are on the disk when this returns."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK = Files()


def write_durably(path: Path, data: bytes, *, keep_as: Path | None = None, files: Files = DISK) -> None:
    """Replace `path` by `data`, atomically and durably; the file that was there becomes `keep_as`.

    Raises OSError, and then `path` is what it was, unless the disk takes no more renames either.
    """
    new = path.with_name(path.name + ".new")
    is_kept = False
    try:
        _write_whole(new, data, files, is_durable=True)
        if keep_as is not None and path.exists():
            # Between the two renames only the old file exists, under its second name: a reader takes that one.
            files.rename(path, keep_as)
            is_kept = True
        files.rename(new, path)
        # A name that is not on the disk may be gone after a power cut: then nobody may be told that it was written.
        files.flush_directory(path.parent)
    except OSError:
        if is_kept:
            assert keep_as is not None
            files.rename(keep_as, path)
        files.unlink(new)
        raise


def write_spare(path: Path, data: bytes, *, files: Files = DISK) -> None:
    """Replace `path` by a second copy of what is on the disk already: atomically, and durably at the disk's leisure.  Raises OSError."""
    new = path.with_name(path.name + ".new")
    try:
        _write_whole(new, data, files, is_durable=False)
        files.rename(new, path)
    except OSError:
        files.unlink(new)
        raise


def _write_whole(path: Path, data: bytes, files: Files, *, is_durable: bool) -> None:
    descriptor = files.create(path)
    try:
        view = memoryview(data)
        while view:
            view = view[files.write(descriptor, view) :]
        if is_durable:
            files.flush(descriptor)
    finally:
        files.close(descriptor)
