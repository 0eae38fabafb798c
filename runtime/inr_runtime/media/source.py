"""Where decoded frames come from: a container, or a list of images."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from inr_runtime.errors import MediaError
from inr_runtime.info import MAX_DEPTH
from inr_runtime.media.clock import DEFAULT_FPS, Timeline
from inr_runtime.media.colour import is_full_range, is_rgb
from inr_runtime.media.geometry import Turn

Stamped = tuple[int | None, av.VideoFrame]


class MediaWarning(UserWarning):
    """A video was read, but something of it is lost or was guessed."""


def warn(path: Path, text: str) -> None:
    """Tell once, in one line that names the file."""
    warnings.warn(MediaWarning(f"{path}: {text}"), stacklevel=3)


@dataclass(frozen=True)
class Facts:
    """What the first frame tells about all of them; width and height as stored, before `turn`.

    matrix_tag, primaries, transfer: numbers of H.273. bit_depth: at most `MAX_DEPTH`, which floats count as.
    """

    width: int
    height: int
    turn: Turn
    pixel_aspect: Fraction
    primaries: int
    transfer: int
    matrix_tag: int
    full_range: bool
    bit_depth: int
    interlaced: bool

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: VideoStream) -> Facts:
        """Read the tags of a decoded frame and of the stream that it came from."""
        codec, rgb = stream.codec_context, is_rgb(frame)
        return cls(
            width=frame.width,
            height=frame.height,
            turn=Turn.of(frame),
            pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
            primaries=codec.color_primaries or 2,
            transfer=codec.color_trc or 2,
            matrix_tag=0 if rgb else int(frame.colorspace),
            full_range=not rgb and is_full_range(frame),
            bit_depth=min(MAX_DEPTH, max(part.bits for part in frame.format.components)),
            interlaced=frame.interlaced_frame,
        )


class Source(Protocol):
    """Decoded frames with their timestamps, as often as asked."""

    path: Path
    facts: Facts
    timeline: Timeline
    damaged: bool
    """Whether anything was unreadable so far."""

    def frames(self, first: int) -> Iterator[Stamped]:
        """Yield (timestamp, frame) from frame `first` on, one at a time."""
        ...

    def timeline_of(self, stamps: Sequence[int | None]) -> Timeline:
        """When frames with these timestamps are shown."""
        ...


class ContainerSource:
    """The first video stream of a file that ffmpeg's libraries can open.

    Opening reads all packets once, without decoding, so that the number of frames and their times are
    known, then decodes one frame.
    """

    def __init__(
        self,
        path: Path,
        fps: Fraction | None = None,
        format: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.path, self._fps, self._format, self._options = path, fps, format, options or {}
        self.damaged = False
        with self._opened() as (container, stream):
            self._time_base = stream.time_base or Fraction(1, 1000)
            self._rates = (stream.average_rate, stream.guessed_rate)
            stamps = self._scan(container, stream)
            ordered = container.format.name != "avi"  # its times are in decoding order
        self.timeline = self.timeline_of(stamps)
        self._can_seek = ordered and self.timeline.trusted
        self._sorted = sorted(stamp for stamp in stamps if stamp is not None)
        with self._opened() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise MediaError(f"{path}: no frame could be decoded; the file is empty, damaged or encrypted")
            self.facts = Facts.of(first, stream)

    def frames(self, first: int) -> Iterator[Stamped]:
        if first == 0 or not self._can_seek:
            yield from islice(self._from(None), first, None)
            return
        target = self._sorted[first]
        frames = self._from(target - round(1 / self._time_base))
        head = list(islice(frames, 1))
        if not all(stamp is not None and stamp <= target for stamp, _ in head):  # the seek went astray
            frames, head = self._from(None), []
        yield from dropwhile(lambda each: each[0] is not None and each[0] < target, chain(head, frames))

    def _from(self, place: int | None) -> Iterator[Stamped]:
        """Decode from the last key frame before a timestamp, or from the start."""
        with self._opened() as (container, stream):
            if place is not None and place > self._sorted[0]:
                with suppress(av.FFmpegError):  # what cannot seek stays at its start
                    container.seek(place, stream=stream)
            for frame in self._decode(container, stream):
                yield frame.pts, frame

    def timeline_of(self, stamps: Sequence[int | None]) -> Timeline:
        timeline = Timeline.of(stamps, self._time_base, self._rates)
        return replace(timeline, fps=self._fps, pts=None) if self._fps else timeline

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            container = av.open(f"file:{self.path}", "r", format=self._format, options=self._options)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path}: not a video or image that can be read ({error.strerror})") from error
        with container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not streams or container.format.name == "tty":  # ffmpeg draws any text file as a terminal
                raise MediaError(f"{self.path}: no video stream; give a video, an image or a folder of images")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]

    def _scan(self, container: InputContainer, stream: VideoStream) -> list[int | None]:
        """Timestamps of all packets that will be shown; notices a file that ends before it should."""
        stamps: list[int | None] = []
        end = 0
        for packet in self._packets(container, stream):
            self.damaged |= packet.is_corrupt
            if packet.size and not packet.is_discard:
                stamps.append(packet.pts)
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
        missing = _promised_end(container, stream) - float(end * self._time_base)
        self.damaged |= any(stamp is not None for stamp in stamps) and missing > 0.25
        return stamps

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Decode everything from here on, stepping over packets that cannot be decoded."""
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged = True
                continue
            for frame in frames:
                self.damaged |= frame.is_corrupt
                yield frame

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        try:
            yield from container.demux(stream)
        except av.FFmpegError:
            self.damaged = True


class ImageSource:
    """Images of one size, one frame each, in the order given."""

    def __init__(self, path: Path, images: Sequence[Path], fps: Fraction | None = None) -> None:
        self.path, self._images, self._fps = path, images, fps or DEFAULT_FPS
        self.damaged = False
        self.timeline = Timeline(len(images), self._fps)
        self.facts = _read_image(images[0])[1]

    def frames(self, first: int) -> Iterator[Stamped]:
        for index, path in enumerate(self._images[first:], first):
            frame, facts = _read_image(path)
            if (facts.width, facts.height) != (self.facts.width, self.facts.height):
                raise MediaError(
                    f"{path}: {facts.width}x{facts.height}, but {self._images[0].name} is "
                    f"{self.facts.width}x{self.facts.height}; all images must have one size"
                )
            yield index, frame

    def timeline_of(self, stamps: Sequence[int | None]) -> Timeline:
        return Timeline(len(stamps), self._fps)


def _read_image(path: Path) -> tuple[av.VideoFrame, Facts]:
    """Decode one image. Opened as a file object: in a path, ffmpeg would take % for a pattern."""
    try:
        with open(path, "rb") as file, av.open(file, "r") as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            return frame, Facts.of(frame, stream)
    except (av.FFmpegError, OSError, IndexError, StopIteration) as error:
        reason = getattr(error, "strerror", None) or "no picture in it"
        raise MediaError(f"{path}: not an image that can be read ({reason})") from error


def _promised_end(container: InputContainer, stream: VideoStream) -> float:
    """Where the container says the video ends, in seconds; 0 where it says nothing."""
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * (stream.time_base or 0))
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
    return (container.duration or 0) / 1_000_000 if len(container.streams) == 1 else 0.0
