"""An open .nvb video: frames by number, by slice, in order, or by time."""

from __future__ import annotations

import bisect
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import BackendError, InrError, UsageError
from inr_runtime.format import NvbReader
from inr_runtime.frame import Frame
from inr_runtime.info import VideoInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.opened import OpenFile
from inr_runtime.segment import make_thumbnail
from inr_runtime.several import ALIKE, Several, frames_at_once
from inr_runtime.tiles import draw_picture, feed_at

THUMBNAIL_TOLERANCE = 12.0
"""Mean difference, in code values, between a decoded thumbnail and the stored one that counts as a wrong picture."""


def open_video(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    target: str = "auto",
    threads: int = 0,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Decoder:
    """Open a .nvb file for decoding.

    backend: one of `inr_runtime.backends.BACKENDS`, or `auto` for the best that plays the file (see
    `inr_runtime.backends.choice`). target: one of `inr_runtime.lower.TARGETS`, or `auto` for the engine's best.
    threads: 0 = all cores.
    size: width and height of the frames, which a coordinate network draws in any; None is the file's own.
    Raises `InputError` or an `NvbError` where the file is not what it should be, `MissingExtraError` without an
    engine, `UsageError` on unknown names.
    """
    reader = NvbReader(path, limits)
    try:
        if reader.header.media == "audio":
            raise UsageError(f"{reader.path} holds sound, not pictures; open it with open_audio")
        return Decoder(reader, backend, target, threads, size)
    except BaseException:
        reader.close()
        raise


class Decoder(OpenFile):
    """An open .nvb video, made by `open_video`. A context manager; `len()` is the number of frames.

    Any frame costs one run of the network, so seeking is free. `[i]` gives uint8 (H, W, 3) and `[i:j]` uint8
    (n, H, W, 3), RGB; `frame`, `frames` and `at` give `Frame` objects with their time.
    """

    def __init__(
        self, reader: NvbReader, backend: str, target: str, threads: int, size: tuple[int, int] | None = None
    ) -> None:
        self._info = reader.header.info if size is None else _resized(reader, size)
        self._several: Several | None = None
        self._always_single = False
        super().__init__(reader, backend, target, threads)

    def __enter__(self) -> Decoder:
        return self

    @property
    def info(self) -> VideoInfo:
        """Size as it is decoded, frame count, frame rate, colour."""
        return self._info

    @property
    def beats_blend(self) -> bool | None:
        """Whether moments between frames, `at(t, interpolate=True)`, were found better than blends of frames.

        From the score on held-out frames in the file's notes; None where it has none.
        """
        try:
            score = json.loads(self._reader.header.meta["heldout"])
        except (KeyError, ValueError, RecursionError):
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

    def frames(self, start: int = 0, stop: int | None = None, *, single: bool = False) -> Iterator[Frame]:
        """Frames from `start` up to but not including `stop` (default: the end), decoded as they are asked for.

        While one segment is decoded, the next is made ready in the background. Small networks draw several frames at
        once where many follow (`several.py`), never so with `single`, for those who time each.
        """
        indices = range(*slice(start, stop).indices(len(self)))
        index = indices.start
        while index < indices.stop:
            decoded = self._decode_some(index, indices.stop, single)
            self._prepare_next(indices.stop)
            for pixels in decoded:
                yield Frame(index, self.info.time_of(index), pixels, self.info.matrix_used)
                index += 1

    def moments(self, times: Iterable[float], end: float, *, interpolate: bool = False) -> Iterator[Frame]:
        """What `at` gives for seconds in order, none after `end`, numbered from 0, decoded as they are asked for.

        A frame that is shown at several moments is decoded once. Segments are made ready as by `frames`.
        """
        stop, shown = self.index_at(end) + 1, None
        for number, time in enumerate(times):
            if shown is None or interpolate or self.index_at(time) != shown.index:
                shown = self.at(time, interpolate=interpolate)
                self._prepare_next(stop)
            yield replace(shown, index=number, pts=time)

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

    def _decode_some(self, index: int, stop: int, single: bool) -> list[NDArray[np.uint8]]:
        """Frame `index`, and those behind it that the same run draws, none from `stop` on."""
        self._open_segment_of(index)
        segment = self._segment
        following = min(stop, segment.first_frame + segment.frame_count) - index
        several = None if single else self._several_of(following)
        if several is not None and several.ready and following >= several.count:
            try:
                with self._reader.naming():
                    return self._draw_several(several, index - segment.first_frame)
            except InrError as error:
                logging.getLogger("inr").warning("single frames from here on: %s", error)
                self._always_single = True
        return [self._decode(float(index))]

    def _draw_several(self, several: Several, first: int) -> list[NDArray[np.uint8]]:
        frames = several.draw(self._graph, self._segment.time_tensors, first)
        if not several.trusted:
            alone = self._draw(float(first + several.count - 1), (self.info.width, self.info.height))
            several.trusted = float(np.abs(frames[-1].astype(np.int16) - alone).mean()) <= ALIKE
            if not several.trusted:
                raise BackendError("frames that are drawn several at once differ from single ones")
        return frames

    def _several_of(self, following: int) -> Several | None:
        """The engine for several frames of the open segment; None where single ones are as good."""
        if self._always_single:
            return None
        segment, target = self._segment, self._targets[0]
        drawn = self._number, target.name
        if self._several is None or self._several.drawn != drawn:
            count = frames_at_once(self._graph, target, following)
            if count == 1:
                return None
            self._close_several()
            engine = lambda: self._open_backend(self._lowered(segment, target, count))  # noqa: E731
            self._several = Several(drawn, count, engine)
        return self._several

    def _close_several(self) -> None:
        several, self._several = self._several, None
        if several is not None:
            several.close()

    def close(self) -> None:
        """Close the engine and the file; decoding is an error afterwards."""
        try:
            self._close_several()
        finally:
            super().close()

    def _open_segment_of(self, position: float) -> None:
        self._require_engine()
        self._open_segment(bisect.bisect_right(self._starts, position) - 1)

    def _decode(self, position: float) -> NDArray[np.uint8]:
        self._open_segment_of(position)
        return self._draw(position - self._segment.first_frame, (self.info.width, self.info.height))

    def _draw(self, t: float, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The open segment at `t` frames from its start, in tiles where its graph draws those."""
        graph, tensors = self._graph, self._segment.time_tensors
        if graph.role == "tile":
            return draw_picture(self._run, graph, tensors, t, size)
        return np.asarray(self._run(feed_at(graph, tensors, t)), np.uint8)

    def _check(self, number: int) -> None:
        """Compare one decoded frame with the stored thumbnail, so that a broken engine is never shown silently."""
        segment, info = self._segment, self._reader.header.info
        shown = make_thumbnail(self._draw(float(segment.thumbnail_frame), (info.width, info.height)))
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


def _resized(reader: NvbReader, size: tuple[int, int]) -> VideoInfo:
    """What the file holds, drawn in another size and shown in the same shape. Raises `UsageError`."""
    info, (width, height) = reader.header.info, size
    if size == (info.width, info.height):
        return info
    if any(graph.role != "tile" for graph in reader.header.graphs):
        raise UsageError(
            f"{reader.path} draws {info.width}x{info.height} and no other size; only coordinate networks are drawn in "
            "any (siren, nerf); leave the size out and scale what comes"
        )
    if min(size) < 1:
        raise UsageError(f"{width}x{height} is no size of a picture")
    reader.limits.check("pixels", width * height, f"{width}x{height}")
    shape = info.pixel_aspect * Fraction(info.width * height, info.height * width)
    return replace(info, width=width, height=height, pixel_aspect=shape)
