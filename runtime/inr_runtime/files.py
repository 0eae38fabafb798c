"""Writing files so that nothing is ever lost: a temporary name beside the target, then a rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from inr_runtime.errors import InrError, UsageError


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists (`UsageError`) or a folder that does not (`UsageError`), before any work."""
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; add -y to overwrite it or choose another name with -o")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; make it first or choose another name with -o")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` with the same suffix; on success it replaces `path`.

    On any error the temporary file is removed and `path` stays as it was. An `OSError` (full disk,
    read-only folder) becomes an `InrError` that names the file.
    """
    # The name is known before the file exists, so that no interrupt can leave a file that nobody removes.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        temporary.touch()
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InrError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing through `replacing`; flushed to the disk before the rename."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
