"""Which engines are here, and which of them play a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from inr_player.request import media_of
from inr_runtime.audio import open_audio
from inr_runtime.backends import BACKENDS, look_for
from inr_runtime.decoder import open_video
from inr_runtime.errors import InrError
from inr_runtime.opened import OpenFile


def list_backends(file: str | None = None, threads: int = 0) -> list[dict[str, Any]]:
    """One row per known engine, best first: `backend`, `available`, `version`, `device`, `reason`.

    file: a .nvb that each available engine is to open and to draw one frame of, or some samples, compared with its
    thumbnail; then `plays` tells what runs, or is None with the reason.
    """
    rows = []
    is_sound = file is not None and media_of(file) == "audio"
    for found in map(look_for, BACKENDS):
        row = asdict(found)
        if file is not None:
            row["plays"] = None
            if found.available:
                row |= _tried(file, is_sound, found.backend, threads)
        rows.append(row)
    return rows


def _tried(file: str, is_sound: bool, backend: str, threads: int) -> dict[str, Any]:
    open_file: Callable[..., OpenFile] = open_audio if is_sound else open_video
    try:
        with open_file(file, backend=backend, threads=threads) as opened:
            return {"plays": opened.backend}
    except InrError as error:
        if error.exit_code != 1:  # the file's fault or the user's, not the engine's
            raise
        return {"reason": str(error)}
