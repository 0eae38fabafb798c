"""`open_media`: one natural way from a file, a folder or a pattern to RGB frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.info import VideoInfo
from inr_runtime.media.clock import DEFAULT_FPS, Timeline
from inr_runtime.media.convert import Converter
from inr_runtime.media.geometry import Pixels
from inr_runtime.media.options import ReadOptions
from inr_runtime.media.pattern import is_pattern, matching
from inr_runtime.media.source import ContainerSource, Facts, ImageSource, Source, warn

IMAGE_SUFFIXES = {".bmp", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
_RAW = {".yuv": "yuv420p", ".rgb": "rgb24"}
_HDR = {16: "PQ", 18: "HLG"}


def open_media(path: str | Path, options: ReadOptions | None = None) -> MediaReader:
    """Open a video, an image, a folder of images, a `%05d.png` pattern or a raw `.yuv` file.

    Raises `MediaError` (no such file, not a video, no frames) or `UsageError` (options that do not fit
    the file). Warns with `MediaWarning` where something of the source is lost.
    """
    path, options = Path(path), options or ReadOptions()
    if path.suffix.lower() in _RAW and path.is_file():
        return MediaReader(_raw(path, options), replace(options, size=None))
    source = _source(path, options)
    if options.pix_fmt:
        raise UsageError(f"{path}: --pix-fmt is for raw .yuv files; this file says its own, so leave it out")
    return MediaReader(source, options)


class MediaReader:
    """The chosen frames of a source; iterate for uint8 (H, W, 3) RGB arrays, as often as wanted.

    Nothing stays open between iterations and one frame is in memory at a time. Frames come upright,
    in 8 bits. A colour tag of the file is honoured; without one it is BT.601, limited range. RGB and
    grey sources never pass through YUV; transparent pixels are drawn over black.
    """

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self._source, self._fps = source, options.fps
        self._first, last = _selection(source, options)
        self._limit = None if last == source.timeline.count else last - self._first
        self._convert = Converter(source, options)
        self._info = self._describe(source.timeline.part(self._first, last))
        self._told = False
        _warn_of_losses(source.path, source.facts)

    @property
    def path(self) -> Path:
        """What was opened."""
        return self._source.path

    @property
    def info(self) -> VideoInfo:
        """The chosen frames as the container announces them; after a full iteration, as they were."""
        return self._info

    def __iter__(self) -> Iterator[Pixels]:
        """Decode; raise `MediaError` where the picture size changes or nothing can be decoded."""
        stamps: list[int | None] = []
        for stamp, frame in islice(self._source.frames(self._first), self._limit):
            self._check_size(frame, len(stamps))
            stamps.append(stamp)
            yield self._convert(frame)
        if not stamps:
            raise MediaError(f"{self.path}: no frame could be decoded from frame {self._first} on; the file is damaged")
        timeline = self._source.timeline_of(stamps)
        self._info = self._describe(timeline)
        if not self._told:
            self._told = True
            self._warn_of_damage(timeline)

    def _describe(self, timeline: Timeline) -> VideoInfo:
        facts = self._source.facts
        return VideoInfo(
            *self._convert.size,
            frame_count=timeline.count,
            fps=timeline.fps,
            pts=timeline.pts,
            time_base=timeline.time_base,
            pixel_aspect=self._convert.pixel_aspect,
            primaries=facts.primaries,
            transfer=facts.transfer,
            matrix_tag=facts.matrix_tag,
            matrix_used=self._convert.matrix,
            full_range=facts.full_range,
            bit_depth=facts.bit_depth,
        )

    def _check_size(self, frame: av.VideoFrame, index: int) -> None:
        facts = self._source.facts
        if (frame.width, frame.height) != (facts.width, facts.height):
            raise MediaError(
                f"{self.path}: frame {self._first + index} is {frame.width}x{frame.height}, the first one "
                f"{facts.width}x{facts.height}; use --end {self._first + index}f, or re-encode it to one size"
            )

    def _warn_of_damage(self, timeline: Timeline) -> None:
        if self._source.damaged and (self._limit is None or timeline.count < self._limit):
            warn(
                self.path,
                f"damaged or cut short; {timeline.count} frames could be read and the rest is left out, "
                "so fetch the file again if it should be longer",
            )
        if not timeline.trusted and self._fps is None:
            warn(
                self.path,
                f"timestamps are missing or repeated; a constant {float(timeline.fps):.6g} frames per second "
                "is used, --fps sets another",
            )
        if self._convert.transparent:
            warn(self.path, "transparent pixels are drawn over black; transparency is not kept")


def _source(path: Path, options: ReadOptions) -> Source:
    if path.is_dir():
        images = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."]
        if not images:
            raise MediaError(f"{path}: no images in this folder; it should hold .png, .jpg or the like")
        return ImageSource(path, sorted(images, key=_natural), options.fps)
    if is_pattern(path) and not path.exists():
        if images := matching(path):
            return ImageSource(path, images, options.fps)
        raise MediaError(f"{path}: no file matches this pattern; check the folder and the name")
    if not path.exists():
        raise MediaError(f"{path}: no such file; check the name")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path, [path], options.fps)
    return ContainerSource(path, options.fps)


def _natural(path: Path) -> list[str | int]:
    """A sort key that puts 2.png before 10.png."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", path.name)]


def _raw(path: Path, options: ReadOptions) -> Source:
    """A headerless file: everything has to be told."""
    if options.size is None:
        raise UsageError(f"{path}: a raw file does not say its shape; add --size WxH --pix-fmt yuv420p --fps 25")
    pix_fmt, (width, height) = options.pix_fmt or _RAW[path.suffix.lower()], options.size
    try:
        parts = av.VideoFormat(pix_fmt, width, height).components
    except ValueError as error:
        raise UsageError(f"--pix-fmt {pix_fmt}: no such pixel format; yuv420p is the usual one") from error
    frame_bytes = sum(part.width * part.height * ((part.bits + 7) // 8) for part in parts)
    if path.stat().st_size == 0 or path.stat().st_size % frame_bytes:
        raise MediaError(
            f"{path}: {path.stat().st_size} bytes are not a whole number of {width}x{height} {pix_fmt} frames "
            f"({frame_bytes} bytes each); check --size and --pix-fmt"
        )
    fps = options.fps or DEFAULT_FPS
    layout = {"video_size": f"{width}x{height}", "pixel_format": pix_fmt, "framerate": str(fps)}
    return ContainerSource(path, fps, "rawvideo", layout)


def _selection(source: Source, options: ReadOptions) -> tuple[int, int]:
    """The first chosen frame and the first one after them; `UsageError` where nothing is left."""
    timeline = source.timeline
    first = timeline.index_of(options.start) if options.start else 0
    last = min(timeline.index_of(options.end), timeline.count) if options.end else timeline.count
    if first >= timeline.count:
        raise UsageError(
            f"{source.path}: --start {options.start} is beyond the end; it has {timeline.count} frames, "
            f"{timeline.duration:.2f} s"
        )
    if last <= first:
        raise UsageError(f"{source.path}: nothing lies between --start {options.start or '0s'} and --end {options.end}")
    return first, min(last, first + options.frames) if options.frames else last


def _warn_of_losses(path: Path, facts: Facts) -> None:
    if hdr := _HDR.get(facts.transfer):
        warn(
            path,
            f"{facts.bit_depth}-bit HDR ({hdr}) is read as 8 bits and not tone mapped: fine gradients are lost and "
            "colours look pale on an ordinary screen; convert it to SDR first for natural colours",
        )
    elif facts.bit_depth > 8:
        warn(path, f"{facts.bit_depth}-bit video is read as 8 bits: gradients finer than 1/255 are lost")
    if facts.interlaced:
        warn(path, "interlaced: both fields stay woven into each frame; deinterlace it first if edges show combs")
