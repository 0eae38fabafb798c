"""What a video is, apart from its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MATRICES = ("bt601", "bt709", "bt2020")
"""Colour matrices that RGB can be made with, by their position in a .nvb file."""
MAX_DEPTH = 16
"""The largest bit depth of a source that a .nvb file tells of."""


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a clip that its frames alone do not tell.

    width, height: displayed size in pixels. frame_count: number of frames. fps: frames per second
    (the average where the rate varies). pts: presentation time of each frame in units of `time_base`
    seconds, from 0, or None where frame i stands at i / fps. pixel_aspect: width of a pixel over its height.
    primaries, transfer, matrix_tag: the source's own tags as numbers of ITU-T H.273 (2 = unspecified).
    matrix_used: the matrix that RGB was made with, one of `MATRICES`. full_range: whether the source's
    YUV was full range. bit_depth: of the source; frames here are always 8 bits.
    """

    width: int
    height: int
    frame_count: int
    fps: Fraction = Fraction(25)
    pts: tuple[int, ...] | None = None
    time_base: Fraction = Fraction(1, 1000)
    pixel_aspect: Fraction = Fraction(1)
    primaries: int = 2
    transfer: int = 2
    matrix_tag: int = 2
    matrix_used: str = "bt601"
    full_range: bool = False
    bit_depth: int = 8

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last frame's end."""
        if self.pts is None:
            return float(self.frame_count / self.fps)
        return float(self.pts[-1] * self.time_base + 1 / self.fps)

    def time_of(self, index: int) -> float:
        """Presentation time of frame `index` in seconds."""
        return float(index / self.fps if self.pts is None else self.pts[index] * self.time_base)


@dataclass(frozen=True)
class AudioInfo:
    """What a sound is: samples a second, channels, samples in each of them."""

    rate: Fraction
    channels: int
    samples: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.samples / self.rate)

    @classmethod
    def of(cls, info: VideoInfo) -> AudioInfo:
        """From the fields that a file holds: a sound is stored as a row of `channels` values per frame."""
        return cls(info.fps, info.width, info.frame_count)

    def as_video(self) -> VideoInfo:
        """As the fields that a file holds."""
        return VideoInfo(self.channels, 1, self.samples, self.rate)
