"""From an open video to a sink, at its own rate or another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from inr_runtime.background import ahead
from inr_runtime.decoder import Decoder
from inr_runtime.frame import Frame

if TYPE_CHECKING:
    from inr_runtime.media import Writer


def play(frames: Iterable[Frame], writer: Writer, progress: Callable[[int], None] | None = None) -> None:
    """Hand `frames` to `writer` in order; `progress` is told the number done so far.

    The next frames are decoded meanwhile, by a thread that has ended when this returns or raises.
    """
    with contextlib.closing(ahead(frames)) as decoded:
        for done, frame in enumerate(decoded, 1):
            writer.write(frame)
            if progress:
                progress(done)


def count_at_rate(decoder: Decoder, frames: range, fps: Fraction) -> int:
    """How many frames at `fps` take as long as the given ones at the video's own rate; at least one."""
    info = decoder.info
    seconds = info.time_of(frames[-1]) + 1 / float(info.fps) - info.time_of(frames.start)
    return max(1, round(seconds * fps))


def frames_at_rate(decoder: Decoder, frames: range, fps: Fraction, interpolate: bool) -> Iterator[Frame]:
    """The given stretch of a video at another rate.

    interpolate: what the network draws at each moment, not beyond the last frame; else the frame that is shown then.
    """
    first, end = decoder.info.time_of(frames.start), decoder.info.time_of(frames[-1])
    times = (min(first + float(i / fps), end) for i in range(count_at_rate(decoder, frames, fps)))
    for picture in decoder.moments(times, end, interpolate=interpolate):
        yield replace(picture, pts=float(picture.index / fps))
