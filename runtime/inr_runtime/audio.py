"""An open .nvb sound: samples from anywhere in it, at any rate."""

from __future__ import annotations

import bisect
import os
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import BackendError, FormatError, UsageError
from inr_runtime.format import NvbReader
from inr_runtime.info import AudioInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.opened import OpenFile
from inr_runtime.segment import sound_print
from inr_runtime.tensors import FloatArray
from inr_runtime.tiles import draw_sound

MAX_RATE = 1 << 20
"""The highest sample rate that sound is decoded at, in Hz."""
PRINT_TOLERANCE = 2.0
"""Mean difference in code values, beside half of the sound's own size, that counts as a wrong sound."""


def open_audio(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    target: str = "auto",
    threads: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> AudioDecoder:
    """Open a .nvb file that holds sound; arguments and errors are those of `open_video`."""
    reader = NvbReader(path, limits)
    try:
        if reader.header.media != "audio":
            raise UsageError(f"{reader.path} holds pictures, no sound; open it with open_video")
        return AudioDecoder(reader, backend, target, threads)
    except BaseException:
        reader.close()
        raise


class AudioDecoder(OpenFile):
    """An open .nvb sound, made by `open_audio`. A context manager; `len()` is the number of samples."""

    def __enter__(self) -> AudioDecoder:
        return self

    def __len__(self) -> int:
        return self.info.samples

    @property
    def info(self) -> AudioInfo:
        """Sample rate, channels, length."""
        return AudioInfo.of(self._reader.header.info)

    def count_at(self, rate: float | None = None) -> int:
        """Samples of the whole sound at another rate; at least one. Raises `ValueError` outside 0 to `MAX_RATE`."""
        if rate is None:
            return len(self)
        if not 0 < rate <= MAX_RATE:
            raise ValueError(f"a sample rate lies in 0 to {MAX_RATE} Hz, not {rate}")
        return max(1, int(len(self) * Fraction(rate) / self.info.rate))

    def samples(self, start: int = 0, stop: int | None = None, rate: float | None = None) -> FloatArray:
        """Samples from `start` up to but not including `stop` (default: the end): float32 (n, channels) in [-1, 1].

        start, stop: as in a slice, counted at `rate` samples a second; None is the sound's own. Sample i stands at
        i / rate seconds, whatever the rate.
        """
        first, last, _ = slice(start, stop).indices(self.count_at(rate))
        step = 1.0 if rate is None else float(self.info.rate / Fraction(rate))
        places = np.arange(first, max(first, last), dtype=np.float64) * step
        parts, done = [np.zeros((0, self.info.channels), np.float32)], 0
        while done < len(places):
            number = bisect.bisect_right(self._starts, places[done]) - 1
            entry = self._reader.index[number]
            end = int(np.searchsorted(places, entry.first_frame + entry.frame_count))
            end = len(places) if number == len(self._starts) - 1 else end
            self._open_segment(number)
            parts.append(self._draw(places[done:end] - entry.first_frame))
            done = end
        return np.concatenate(parts)

    def _draw(self, places: NDArray[np.float64]) -> FloatArray:
        segment = self._segment
        sound = draw_sound(self._run, self._graph, segment.time_tensors, places, segment.frame_count)
        if not np.isfinite(sound).all():
            raise FormatError(f"{self._reader.path}: segment {self._number}: its weights give NaN")
        return sound

    def _check(self, number: int) -> None:
        """Compare some samples with those that the segment holds, so that a broken engine is never heard silently."""
        segment = self._segment
        stored = segment.thumbnail.reshape(-1).astype(np.float64)
        first = segment.thumbnail_frame
        places = np.arange(first, min(first + len(stored), segment.frame_count), dtype=np.float64)
        shown = sound_print(self._draw(places)).reshape(-1)
        if shown.shape != stored.shape:
            raise BackendError(f"{self._reader.path}: segment {number}: the thumbnail is longer than the sound")
        difference = float(np.abs(shown - stored).mean())
        if difference > PRINT_TOLERANCE + 0.5 * float(np.abs(stored - 128).mean()):
            raise BackendError(
                f"{self._reader.path}: segment {number} decodes to a wrong sound with {self.backend} "
                f"(its thumbnail differs by {difference:.0f} code values); try --target cpu-fp32"
            )
