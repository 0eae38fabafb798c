"""Which frames of a video are wanted, in mpv's words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inr_runtime.errors import UsageError
from inr_runtime.info import VideoInfo
from inr_runtime.media import Position
from inr_runtime.media.clock import Timeline


@dataclass(frozen=True)
class Selection:
    """From `start` to before `end`, over `length` at most, `frames` at most; the default is every frame."""

    start: Position | None = None
    end: Position | None = None
    length: Position | None = None
    frames: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether the last frame was chosen too, and not left to the end of the video."""
        return (self.end, self.length, self.frames) != (None, None, None)

    def of(self, info: VideoInfo) -> range:
        """The chosen frames of a video, at least one; raises `UsageError` where there is none."""
        timeline = timeline_of(info)
        first = timeline.index_of(self.start) if self.start else 0
        if first >= info.frame_count:
            raise UsageError(
                f"--start {self.start} is beyond the end; the video has {info.frame_count} frames, "
                f"{info.duration:.2f} s"
            )
        stops = [info.frame_count]
        if self.end:
            stops.append(timeline.index_of(self.end))
        if self.length:
            stops.append(_after(first, self.length, info))
        if self.frames:
            stops.append(first + self.frames)
        if min(stops) <= first:
            raise UsageError(f"no frame lies between --start {self.start or '0s'} and --end {self.end or self.length}")
        return range(first, min(stops))


def part_of(info: VideoInfo, frames: range) -> VideoInfo:
    """What the chosen frames are as a video of their own, with times from 0."""
    if info.pts is None:
        return replace(info, frame_count=len(frames))
    pts = tuple(info.pts[i] - info.pts[frames.start] for i in frames)
    return replace(info, frame_count=len(frames), pts=pts)


def _after(first: int, length: Position, info: VideoInfo) -> int:
    if length.unit == "s":
        return timeline_of(info).index_at(info.time_of(first) + length.value)
    return first + timeline_of(info).index_of(length)


def timeline_of(info: VideoInfo) -> Timeline:
    """When the frames of a video are shown."""
    return Timeline(info.frame_count, info.fps, info.pts, info.time_base)
