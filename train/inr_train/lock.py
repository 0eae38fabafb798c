"""One training run per output: a lock that the system frees when its process ends, however it ends."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP
from pathlib import Path

from filelock import FileLock, Timeout

from inr_runtime.errors import UsageError
from inr_runtime.files import check_folder

_UNSUPPORTED = {ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP}
"""What file systems answer that know no locks."""


def lock_path(output: Path) -> Path:
    """The file whose lock stands for `output`: hidden, beside it."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def held(output: Path | None) -> Iterator[None]:
    """Keep every other process from training `output`; does nothing without one.

    A process that is killed frees the lock; the file that it leaves is taken over by the next run, and removed at its
    end. On a file system without locks this warns and goes on.
    Raises `UsageError` where another process has it, or where its folder is missing or cannot be written in.
    """
    if output is None:
        yield
        return
    check_folder(output.parent)
    path = lock_path(output)
    # Not the library's fallback to a file that merely exists: that one outlives a kill.
    lock = FileLock(path, fallback_to_soft=False)
    if not _acquired(lock, path, output):
        yield
        return
    try:
        _write_owner(path)
        yield
    finally:
        # Removed while held: a process that opened it before sees, once it has the lock, that the file has no name
        # any more. Windows refuses to remove an open file; there the library does it on release.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _acquired(lock: FileLock, path: Path, output: Path) -> bool:
    """Take the lock; False where the file system has none."""
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        owner = _owner(path)
        raise UsageError(
            f"{output} is being trained by another process{f' (pid {owner})' if owner else ''}; "
            "wait for it, stop it, or choose another name"
        ) from error
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            warnings.warn(f"{output.parent} knows no locks; do not train {output} twice at a time", stacklevel=2)
            return False
        raise UsageError(
            f"cannot lock {path}: {error.strerror}; remove it if nobody trains {output}, or choose another name"
        ) from error
    return True


def _write_owner(path: Path) -> None:
    # From byte 1 on: Windows lets nobody read or write byte 0, which is what the library locks.
    with suppress(OSError), open(path, "r+b", buffering=0) as file:
        file.seek(1)
        file.truncate()
        file.write(f"{os.getpid()}\n".encode())


def _owner(path: Path) -> int | None:
    """The process that holds the lock, where it can be read."""
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        file.seek(1)
        found = re.match(rb"\d+", file.read(20) or b"")
        return int(found[0]) if found else None
    return None
