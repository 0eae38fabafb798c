"""From an open video to a sink."""

from __future__ import annotations

from collections.abc import Callable

from inr_runtime.decoder import Decoder
from inr_runtime.media import Writer


def play(decoder: Decoder, writer: Writer, frames: range, progress: Callable[[int], None] | None = None) -> None:
    """Decode `frames` in order and hand each to `writer`; `progress` is told the number done so far."""
    for done, frame in enumerate(decoder.frames(frames.start, frames.stop), 1):
        writer.write(frame)
        if progress:
            progress(done)
