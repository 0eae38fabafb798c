"""What to read of a video, and how people write it on a command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from inr_runtime.errors import UsageError

# Ten digits are enough for everybody; without end, they become infinite or refuse to become a number at all.
_WHOLE = r"([0-9]{1,10})"
_CLOCK = re.compile(rf"(?:(?:{_WHOLE}:)?{_WHOLE}:)?([0-9]{{1,10}}(?:\.[0-9]*)?|\.[0-9]+)")
_SIZE = re.compile(rf"{_WHOLE}x{_WHOLE}")
_CROP = re.compile(rf"{_WHOLE}x{_WHOLE}(?:\+{_WHOLE}\+{_WHOLE})?")


@dataclass(frozen=True)
class Position:
    """A place in a video: `value` in seconds (unit "s"), percent (unit "%") or frames from 0 (unit "f")."""

    value: float
    unit: str = "s"

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


@dataclass(frozen=True)
class ReadOptions:
    """Which frames of a source to read, and their shape. The default is everything as it is.

    start, end: the first frame and the first frame left out. frames: at most this many. crop: (width,
    height) in the centre or (width, height, x, y), in upright source pixels, cut before scaling.
    size: (width, height) to scale to; for a raw `.yuv` file it is the size of the frames in the file,
    which are then not scaled. pix_fmt: ffmpeg's pixel format name, for raw `.yuv` only. fps: frames
    per second, for raw `.yuv` and images; given for a video it replaces the file's own clock.
    """

    start: Position | None = None
    end: Position | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | tuple[int, int, int, int] | None = None
    pix_fmt: str | None = None
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        """Raise `UsageError` for a count, size or rate that is not positive."""
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"--frames {self.frames}: at least one frame is needed")
        if self.fps is not None and self.fps <= 0:
            raise UsageError(f"--fps {self.fps}: the rate must be above zero")
        for flag, size in (("--size", self.size), ("--crop", self.crop)):
            if size is not None and min(size[:2]) < 1:
                raise UsageError(f"{flag} {size[0]}x{size[1]}: width and height must be above zero")


def parse_position(text: str) -> Position:
    """Read `[[hh:]mm:]ss[.ms]`, `12%` or `120f`; raise `UsageError` for anything else."""
    if match := re.fullmatch(r"([0-9]{1,10}(?:\.[0-9]*)?)%", text):
        if float(match[1]) > 100:
            raise UsageError(f"'{text}' is beyond the end; percent go from 0% to 100%")
        return Position(float(match[1]), "%")
    if match := re.fullmatch(rf"{_WHOLE}f", text):
        return Position(float(match[1]), "f")
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return Position(3600 * hours + 60 * minutes + seconds, "s")
    raise UsageError(f"'{text}' is not a time; write 90, 1:30.5, 12% or 120f (a frame)")


def parse_rate(text: str) -> Fraction:
    """Read frames per second, such as 25, 29.97 or 30000/1001; raise `UsageError` for anything else, or above 1000.

    The denominator is at most 100,000, so that files of every kind can hold the rate: 29.97002997 is 30000/1001.
    """
    if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,10}|/[0-9]{1,10})?", text):
        try:
            rate = Fraction(text).limit_denominator(100_000)
        except ZeroDivisionError:
            rate = Fraction(0)
        if 0 < rate <= 1000:
            return rate
    raise UsageError(f"'{text}' is not a rate; write frames per second like 25, 29.97 or 30000/1001")


def parse_size(text: str) -> tuple[int, int]:
    """Read `WxH` in pixels; raise `UsageError` for anything else."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise UsageError(f"'{text}' is not a size; write WxH, such as 1280x720")
    return int(match[1]), int(match[2])


def parse_crop(text: str) -> tuple[int, int] | tuple[int, int, int, int]:
    """Read `WxH` (centre) or `WxH+X+Y` in pixels; raise `UsageError` for anything else."""
    match = _CROP.fullmatch(text)
    if not match:
        raise UsageError(f"'{text}' is not a crop; write WxH or WxH+X+Y, such as 1280x640+0+40")
    width, height = int(match[1]), int(match[2])
    return (width, height) if match[3] is None else (width, height, int(match[3]), int(match[4]))
