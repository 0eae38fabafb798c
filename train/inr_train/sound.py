"""A sound in memory: for training, a picture of one row whose pixels are samples."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import UsageError
from inr_runtime.info import VideoInfo
from inr_runtime.media import ReadOptions
from inr_runtime.media.sound import is_sound, read_sound
from inr_train.clip import Clip


class Sound(Clip):
    """frames: float32 (1, 1, n, channels) in [-1, 1]; info: one frame of n x 1 pixels, fps is the sample rate."""

    @classmethod
    def of(cls, samples: NDArray[np.float32], rate: Fraction | int, source: str = "sound") -> Sound:
        """From samples (n, channels) in [-1, 1]."""
        frames = np.ascontiguousarray(samples, np.float32)[None, None]
        info = VideoInfo(len(samples), 1, 1, Fraction(rate))
        return cls(frames, info, source)  # type: ignore[arg-type]

    @property
    def channels(self) -> int:
        """Channels of the sound."""
        return int(self.frames.shape[3])

    @classmethod
    def open(cls, path: str | Path, options: ReadOptions | None = None) -> Sound:
        """Decode a sound; raises what `read_sound` raises, and `UsageError` on options that only pictures have."""
        options = options or ReadOptions()
        if options != ReadOptions(start=options.start, end=options.end):
            raise UsageError(f"{path}: --size, --crop, --frames, --fps and --pix-fmt are for pictures; this is a sound")
        sound = cls.of(*read_sound(path, options.start, options.end), str(path))
        return replace(sound, options=options)


def read_source(path: str | Path, options: ReadOptions | None = None) -> Clip:
    """A sound or a clip, by the path's suffix."""
    return Sound.open(path, options) if is_sound(path) else Clip.read(path, options)
