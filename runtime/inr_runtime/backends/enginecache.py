"""Engines that TensorRT built, kept in a folder that nobody else can write: an engine is code that will be run."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

from inr_runtime.errors import BackendError, InrError
from inr_runtime.files import writing

_MAGIC = b"INR engine 1\n"
_DIGEST = 32


def cache_folder() -> Path:
    """$INR_CACHE_DIR, or the system's folder for what can be made again."""
    if os.environ.get("INR_CACHE_DIR"):
        return Path(os.environ["INR_CACHE_DIR"])
    home = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache") / "inr-video"


class EngineCache:
    """Engines by key. Raises `BackendError` where the folder belongs to, or is open to, others.

    A file holds a checksum, so that one which was cut or altered by accident is noticed, removed and built anew. The
    checksum keeps no attacker out; the folder's owner and mode do.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "tensorrt"
        self._usable = _make_private(self.folder)

    def load(self, key: str) -> tuple[bytes, bytes] | None:
        """The digest of the weights that an engine was stored with, and the engine; None where it is not there."""
        path = self._path(key)
        try:
            data = path.read_bytes() if self._usable else b""
        except OSError:
            return None
        head, payload = data[: len(_MAGIC) + _DIGEST], data[len(_MAGIC) + _DIGEST :]
        if head == _MAGIC + hashlib.sha256(payload).digest():
            return payload[:_DIGEST], payload[_DIGEST:]
        if data:
            self.drop(key, "it is damaged")
        return None

    def store(self, key: str, weights: bytes, engine: bytes) -> None:
        """Keep an engine; where nothing can be written it is built again next time, and a warning says so."""
        payload = weights + engine
        try:
            if not self._usable:
                raise InrError(f"{self.folder} cannot be made")
            with writing(self._path(key)) as file:
                file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
        except InrError as error:
            logging.getLogger("inr").warning("the engine is not kept and will be built again: %s", error)

    def drop(self, key: str, why: str) -> None:
        """Remove an engine that cannot be used."""
        logging.getLogger("inr").warning("%s: %s; building it anew", self._path(key), why)
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.engine"


def _make_private(folder: Path) -> bool:
    """Make the folder with mode 0700; False where it cannot be made. Raises `BackendError` on one that is not ours."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise BackendError(
            f"{folder} must be a folder of your own that is closed to others, since engines in it are run; "
            f"run: chmod 700 {folder}, or set INR_CACHE_DIR to another place"
        )
    return True
