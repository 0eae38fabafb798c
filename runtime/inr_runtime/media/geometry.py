"""Which way up a picture is, and which part of it is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import UsageError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Rect:
    """A window of pixels; x and y count from the top left corner."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, pixels: Pixels) -> Pixels:
        """The window's part of an (H, W, ...) array, as a view."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True)
class Turn:
    """How stored pixels become upright: transposed first, then mirrored along x and y."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Turn:
        """Read the display matrix of a frame; angles between quarter turns go to the nearest one."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        (a, b), (c, d) = np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].tolist()
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def upright(self, pixels: Pixels) -> Pixels:
        """Turn a stored (H, W, 3) array; contiguous."""
        turned = pixels.swapaxes(0, 1) if self.transpose else pixels
        turned = turned[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return np.ascontiguousarray(turned)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height on the other side of the turn, either way."""
        return (height, width) if self.transpose else (width, height)

    def stored(self, rect: Rect, width: int, height: int) -> Rect:
        """Where a window of the upright `width` x `height` picture lies in the stored one."""
        x = width - rect.x - rect.width if self.mirror_x else rect.x
        y = height - rect.y - rect.height if self.mirror_y else rect.y
        if self.transpose:
            return Rect(y, x, rect.height, rect.width)
        return Rect(x, y, rect.width, rect.height)


def window(crop: tuple[int, ...], width: int, height: int) -> Rect:
    """Place a crop of (w, h) or (w, h, x, y) in a picture; raise `UsageError` where it does not fit."""
    w, h = crop[:2]
    x, y = crop[2:] or ((width - w) // 2, (height - h) // 2)
    if x < 0 or y < 0 or x + w > width or y + h > height:
        asked = f"{w}x{h}+{x}+{y}" if crop[2:] else f"{w}x{h}"
        raise UsageError(f"--crop {asked} reaches outside the {width}x{height} picture; choose a smaller one")
    return Rect(x, y, w, h)
