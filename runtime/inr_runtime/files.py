"""Writing files so that nothing is ever lost: a temporary name beside the target, then a rename."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from inr_runtime.errors import InrError, UsageError


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists or a place where nothing can be written (`UsageError`), before any work."""
    check_name(path, overwrite)
    check_folder(path.parent)


def check_name(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists, or a folder, device or pipe of that name. Raises `UsageError`."""
    # os.path, not Path: its answers are False, not errors, where a folder may not be looked into.
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is not an ordinary file, so it cannot be replaced; choose another name")
    if os.path.exists(path) and not overwrite:
        raise UsageError(f"{path} exists; add -y to overwrite it or choose another name")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is missing, read-only or full: proven by writing one byte. Raises `UsageError`."""
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is not a folder; make it first or choose another")
    probe = _temporary(folder / "probe")
    try:
        probe.write_bytes(b"\n")
    except OSError as error:
        raise UsageError(f"nothing can be written in {folder}: {error.strerror}; choose another folder") from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` with the same suffix; on success it replaces `path`.

    On any error the temporary file is removed and `path` stays as it was. An `OSError` (full disk,
    read-only folder) becomes an `InrError` that names the file.
    """
    # The name is known before the file exists, so that no interrupt can leave a file that nobody removes.
    temporary = _temporary(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise InrError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing through `replacing`; flushed to the disk before the rename."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes left of `path`.

    Only for who knows that no other process is writing `path` now: the names do not tell the dead from the living.
    """
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{8}}\.part{re.escape(path.suffix)}")
    with suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            if name.fullmatch(entry.name):
                _remove(entry)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")


def _remove(path: Path) -> None:
    # What cannot be removed must not hide the error that is on its way.
    with suppress(OSError):
        path.unlink(missing_ok=True)
