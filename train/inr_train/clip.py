"""A video in memory: what one network is fitted to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.info import VideoInfo
from inr_runtime.media import ReadOptions, open_media

MAX_BYTES = 4 << 30
"""What a clip may take unless told otherwise: some 1500 frames of 1280x720."""

EXCERPT = Path(__file__).parent / "assets" / "bunny_180p.mp4"
_EXCERPT_SHA256 = "3f3c91be0f0f6ab1da866ba7bbb8f0f79d59c699bb9f66b02081872a7b57e0ae"


@dataclass(frozen=True, eq=False)
class Clip:
    """frames: uint8 (T, H, W, 3) RGB, contiguous. info: their facts. source, options, every: how they were read.

    every: only each frame of this count is here.
    """

    frames: NDArray[np.uint8]
    info: VideoInfo
    source: str
    options: ReadOptions = field(default_factory=ReadOptions)
    every: int = 1

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all pixels, computed once."""
        return hashlib.sha256(self.frames.data).hexdigest()

    def thinned(self, every: int) -> Clip:
        """The first of every so many frames, at the rate that leaves the speed as it is."""
        if every == 1:
            return self
        info = self.info
        frames = np.ascontiguousarray(self.frames[::every])
        pts = None if info.pts is None else info.pts[::every]
        info = replace(info, frame_count=len(frames), fps=info.fps / every, pts=pts)
        return replace(self, frames=frames, info=info, every=self.every * every)

    @classmethod
    def read(cls, path: str | Path, options: ReadOptions | None = None, *, max_bytes: int = MAX_BYTES) -> Clip:
        """Decode a video, an image or a folder of images into memory.

        Raises `UsageError` where it would take more than `max_bytes`, before decoding if the file says
        how long it is, and otherwise what `open_media` raises.
        """
        reader = open_media(path, options)
        info = reader.info
        shape = (info.height, info.width, 3)
        room = max_bytes // (info.height * info.width * 3)
        if info.frame_count > room:
            raise _too_big(path, info, room)
        frames = np.empty((info.frame_count, *shape), np.uint8)
        count = 0
        for pixels in reader:
            if count == room:
                raise _too_big(path, info, room)
            if count == len(frames):  # the container announced too few
                frames = np.concatenate([frames, np.empty_like(frames)])
            frames[count] = pixels
            count += 1
        return cls(frames[:count], reader.info, str(path), options or ReadOptions())


def spread(frames: int, most: int) -> list[int]:
    """The numbers of at most so many of `frames` frames, spread evenly."""
    count = min(frames, most)
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def excerpt() -> Clip:
    """The embedded default: 48 frames of Big Buck Bunny, 320x180, 25 fps (see assets/CREDIT.md)."""
    if hashlib.sha256(EXCERPT.read_bytes()).hexdigest() != _EXCERPT_SHA256:
        raise MediaError(f"{EXCERPT}: not the excerpt that this version ships; install the package again")
    return replace(Clip.read(EXCERPT), source=EXCERPT.name)


def _too_big(path: str | Path, info: VideoInfo, room: int) -> UsageError:
    most = f"at most {room} frames" if room else "not one frame"
    way_out = f"--frames {room} or a smaller --size" if room else "a smaller --size"
    return UsageError(f"{path}: {most} of {info.width}x{info.height} fit in the memory allowed; use {way_out}")
