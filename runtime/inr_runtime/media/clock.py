"""When each frame is shown: a constant rate where the timestamps allow it, else the timestamps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from inr_runtime.media.options import Position

_COMMON = tuple(Fraction(n) for n in (24, 25, 30, 48, 50, 60, 100, 120))
_COMMON_RATES = _COMMON + tuple(rate * Fraction(1000, 1001) for rate in _COMMON)
DEFAULT_FPS = Fraction(25)


@dataclass(frozen=True)
class Timeline:
    """`count` frames at `fps`, or at `pts` x `time_base` seconds (from 0, rising) where the rate varies.

    `trusted` is false where the timestamps were missing or repeated, so that `fps` had to stand in.
    """

    count: int
    fps: Fraction = DEFAULT_FPS
    pts: tuple[int, ...] | None = None
    time_base: Fraction = Fraction(1, 1000)
    trusted: bool = True

    @classmethod
    def of(cls, stamps: Sequence[int | None], time_base: Fraction, rates: Iterable[Fraction | None] = ()) -> Timeline:
        """Make a timeline of timestamps in any order; `rates` are what the container says, best first.

        A rate is believed where it explains every timestamp to within their rounding.
        """
        claimed = [rate for rate in rates if rate]
        known = sorted(stamp for stamp in stamps if stamp is not None)
        pts = [stamp - known[0] for stamp in known]
        if len(pts) < len(stamps) or any(a == b for a, b in pairwise(pts)):
            return cls(len(stamps), (*claimed, DEFAULT_FPS)[0], trusted=False)
        if len(pts) < 2:
            return cls(len(pts), (*claimed, DEFAULT_FPS)[0])
        mean = (len(pts) - 1) / (pts[-1] * time_base)
        for rate in (*claimed, *_COMMON_RATES, mean.limit_denominator(1001)):
            if rate and _explains(rate, pts, time_base):
                return cls(len(pts), rate)
        return cls(len(pts), mean.limit_denominator(100_000) or Fraction(1, 100_000), tuple(pts), time_base)

    def index_at(self, seconds: float) -> int:
        """Index of the first frame shown at or after `seconds`; `count` where there is none."""
        # People round times to milliseconds; samples of sound are nearer to each other than that.
        seconds = max(seconds - min(0.0005, 0.5 / float(self.fps)), 0.0)
        if self.pts is not None:
            return bisect_left(self.pts, seconds / float(self.time_base))
        return min(math.ceil(seconds * float(self.fps)), self.count)

    def index_of(self, position: Position) -> int:
        """Index of the first frame at or after `position`; `count` or more where there is none."""
        if position.unit == "s":
            return self.index_at(position.value)
        return int(position.value if position.unit == "f" else position.value * self.count / 100)

    def part(self, first: int, last: int) -> Timeline:
        """The timeline of frames `first` to `last` (left out), from 0 again."""
        if self.pts is None:
            return replace(self, count=last - first)
        return Timeline.of(self.pts[first:last], self.time_base, (self.fps,))

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last frame's end."""
        if self.pts is None:
            return float(self.count / self.fps)
        return float(self.pts[-1] * self.time_base + 1 / self.fps)


def _explains(rate: Fraction, pts: Sequence[int], time_base: Fraction) -> bool:
    """Whether frame i stands at i / rate, give or take what rounding to `time_base` can do."""
    step = 1 / (rate * time_base)
    limit = min(step.denominator, step.numerator // 4)  # one tick, but less than a frame
    return all(abs(stamp * step.denominator - i * step.numerator) <= limit for i, stamp in enumerate(pts))
