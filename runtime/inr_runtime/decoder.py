"""An open .nvb video: frames by number, by slice, in order, or by time."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterator
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from inr_runtime.backends import Backend, open_backend
from inr_runtime.chunks import Header
from inr_runtime.errors import BackendError, ChecksumError, FormatError, NvbError, TruncatedError
from inr_runtime.format import NvbReader
from inr_runtime.frame import Frame
from inr_runtime.info import VideoInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.lower import TARGETS, Target, lower, target_named
from inr_runtime.segment import Segment, make_thumbnail

THUMBNAIL_TOLERANCE = 12.0
"""Mean difference, in code values, between a decoded thumbnail and the stored one that counts as a wrong picture."""


def open_video(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    target: str = "auto",
    threads: int = 0,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoder:
    """Open a .nvb file for decoding.

    backend: `auto` or one of `inr_runtime.backends.BACKENDS`. target: `auto` (int8 where the file was made for it,
    else fp32) or one of `inr_runtime.lower.TARGETS`. threads: 0 = all cores.
    Raises `InputError` or an `NvbError` where the file is not what it should be, `MissingExtraError` without an
    engine, `UsageError` on unknown names.
    """
    reader = NvbReader(path, limits)
    try:
        return Decoder(reader, backend, _choose_target(reader.header, target), threads)
    except BaseException:
        reader.close()
        raise


def _choose_target(header: Header, name: str) -> Target:
    if name != "auto":
        return target_named(name)
    return TARGETS["cpu-int8" if header.ranges else "cpu-fp32"]


class Decoder:
    """An open .nvb video, made by `open_video`. A context manager; `len()` is the number of frames.

    Any frame costs one run of the network, so seeking is free. `[i]` gives uint8 (H, W, 3) and `[i:j]` uint8
    (n, H, W, 3), RGB; `frame`, `frames` and `at` give `Frame` objects with their time.
    """

    def __init__(self, reader: NvbReader, backend: str, target: Target, threads: int) -> None:
        self._reader, self._backend_name, self._target, self._threads = reader, backend, target, threads
        self._starts = [e.first_frame for e in reader.index]
        self._number = -1
        self._segment: Segment
        self._engine: Backend | None = None
        self._open_any()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine and the file; decoding is an error afterwards."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._reader.close()

    @property
    def info(self) -> VideoInfo:
        """Size, frame count, frame rate, colour."""
        return self._reader.header.info

    @property
    def reader(self) -> NvbReader:
        """The file underneath: header, index, sizes."""
        return self._reader

    @property
    def backend(self) -> str:
        """What really runs, for people."""
        return self._require_engine().name

    @property
    def target(self) -> Target:
        """Engine and precision that the graph was lowered for."""
        return self._target

    @property
    def beats_blend(self) -> bool | None:
        """Whether moments between frames, `at(t, interpolate=True)`, were found better than blends of frames.

        From the score on held-out frames in the file's notes; None where it has none.
        """
        try:
            score = json.loads(self._reader.header.meta["heldout"])
        except (KeyError, ValueError):
            return None
        return score.get("beats_blend") is True if isinstance(score, dict) else None

    def __len__(self) -> int:
        return self.info.frame_count

    def __getitem__(self, key: int | slice) -> NDArray[np.uint8]:
        if isinstance(key, slice):
            indices = range(*key.indices(len(self)))
            frames = [self.frame(i).pixels for i in indices]
            return np.stack(frames) if frames else np.zeros((0, self.info.height, self.info.width, 3), np.uint8)
        return self.frame(key).pixels

    def frame(self, index: int) -> Frame:
        """Frame `index` (negative counts from the end). Raises `IndexError` outside the video."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"frame {index} is outside this video of {count} frames")
        index %= count
        return Frame(index, self.info.time_of(index), self._decode(float(index)), self.info.matrix_used)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames from `start` up to but not including `stop` (default: the end), decoded as they are asked for."""
        for index in range(*slice(start, stop).indices(len(self))):
            yield self.frame(index)

    def at(self, t: float, *, interpolate: bool = False) -> Frame:
        """The frame shown at `t` seconds from the start, clamped to the video.

        interpolate: ask the network for the moment itself, between two frames; only representations that were trained
        for it give a good picture there. Raises `ValueError` where t is NaN or infinite.
        """
        position = self._position(t)
        if not interpolate:
            return self.frame(int(position))
        return Frame(int(position), t, self._decode(position), self.info.matrix_used)

    def index_at(self, t: float) -> int:
        """The number of the frame shown at `t` seconds from the start, clamped to the video."""
        return int(self._position(t))

    def _position(self, t: float) -> float:
        """Seconds to frames: fractional, inside [0, len - 1]."""
        if not np.isfinite(t):
            raise ValueError(f"time must be finite, not {t}")
        info, last = self.info, float(len(self) - 1)
        if info.pts is None:
            return min(max(t * float(info.fps) + 1e-6, 0.0), last)
        ticks = t / float(info.time_base) + 1e-6
        before = max(bisect.bisect_right(info.pts, ticks) - 1, 0)
        if before >= last:
            return last
        step = info.pts[before + 1] - info.pts[before]
        return before + min(max((ticks - info.pts[before]) / step, 0.0), 1.0)

    def _decode(self, position: float) -> NDArray[np.uint8]:
        self._require_engine()
        self._open_segment(bisect.bisect_right(self._starts, position) - 1)
        pixels: NDArray[np.uint8] = self._run(position - self._segment.first_frame)
        return pixels

    def _run(self, t: float) -> NDArray[np.uint8]:
        graph = self._reader.header.graphs[self._segment.graph]
        names = (port.name for port in graph.inputs)
        inputs = {n: s.sample(t) for n, s in zip(names, self._segment.time_tensors, strict=True)}
        with self._reader.naming():
            return np.asarray(self._require_engine().run(inputs)[0], np.uint8)

    def _require_engine(self) -> Backend:
        if self._engine is None:
            raise BackendError("this video is closed")
        return self._engine

    def _open_any(self) -> None:
        """Open the first segment that is whole: a damaged one costs its own frames and not the video."""
        damage: NvbError | None = None
        for number in range(len(self._starts)):
            try:
                return self._open_segment(number)
            except (ChecksumError, FormatError, TruncatedError) as error:
                damage = damage or error
        if damage is not None:
            raise damage

    def _open_segment(self, number: int) -> None:
        if number == self._number:
            return
        segment = self._reader.segment(number)
        header = self._reader.header
        with self._reader.naming(f"segment {number}"):
            graph = header.graphs[segment.graph]
            lowered = lower(graph, segment.weights, self._target, header.ranges.get(segment.graph))
            engine = open_backend(lowered, self._backend_name, self._threads)
        if self._engine is not None:
            self._engine.close()
        self._engine, self._segment, self._number = engine, segment, -1
        self._check_picture(number)
        self._number = number

    def _check_picture(self, number: int) -> None:
        """Compare one decoded frame with the stored thumbnail, so that a broken engine is never shown silently."""
        segment = self._segment
        shown = make_thumbnail(self._run(float(segment.thumbnail_frame)))
        if shown.shape != segment.thumbnail.shape:
            raise BackendError(
                f"{self._reader.path}: segment {number}: the thumbnail has another shape than the frames"
            )
        difference = float(np.abs(shown.astype(np.int16) - segment.thumbnail).mean())
        if difference > THUMBNAIL_TOLERANCE:
            raise BackendError(
                f"{self._reader.path}: segment {number} decodes to a wrong picture with {self.backend} "
                f"(its thumbnail differs by {difference:.0f} code values); try --target cpu-fp32"
            )
