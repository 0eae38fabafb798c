"""Time and place live on the host: what a graph is fed for a moment of the video, or for a tile of a frame.

No graph ever sees time. A `TimeTensor` is a tensor with a time axis and a rule; `sample(t)` turns a moment
into the graph's input, in float64 where accuracy matters. t is in frames from the segment's start, may be
fractional, and is clamped to the segment; NaN or infinity is refused. Graphs that draw tiles also take their tile's
coordinates, one axis at a time: `along(coordinates)`. So no graph knows how large the whole picture is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import FormatError
from inr_runtime.tensors import FloatArray, QuantTensor

RULES = ("encoding", "row", "lerp", "window", "x", "y", "t")
"""Sampling rules, by their number in a .nvb file."""
AXES = ("x", "y")
"""Rules of a tile's own axes."""
WITHOUT_DATA = frozenset({"encoding", "x", "y", "t"})


@dataclass(frozen=True)
class TimeTensor:
    """A tensor with a time axis and its sampling rule.

    rule:
      encoding  no data; t/length is encoded as sin(pi b^k t), cos(pi b^k t) for k < l, interleaved per k
                (NeRV, eq. 1 and code); l = 0 gives t/length itself. Input shape (1, max(1, 2l), 1, 1).
      row       the slice nearest to t + offset. Input shape (1, *slice).
      lerp      linear blend of the two slices around t + offset, over frames_per_slice. Input shape (1, *slice).
      window    the k slices centred on the nearest one, ends repeated. Input shape (1, k * slice[0], ...).
      x, y      no data; the coordinates of a tile's columns (of sound: its samples) or rows, encoded as by
                `encode_positions`. Input shape (1, C, 1, length) or (1, C, length, 1), C = max(1, 2l).
      t         no data; the coordinate 2 (t + offset + 1/2) / length - 1 of a frame's middle, encoded in the same way.
                Input shape (1, C, 1, 1).
    length: frames in the segment for `encoding` and `t`, of the tile for `x` and `y`; slices of `data` otherwise.
    offset: added to t, in frames. stride: frames from one slice to the next. data: integers of shape (length, *slice).
    """

    rule: str
    length: int
    offset: float = 0.0
    stride: float = 1.0
    base: float = 1.25
    levels: int = 0
    window: int = 1
    data: QuantTensor | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise FormatError(f"unknown sampling rule {self.rule!r}; known: {', '.join(RULES)}")
        if self.length < 1 or not all(map(math.isfinite, (self.offset, self.stride, self.base))):
            raise FormatError(f"a time tensor needs a length of at least 1 and finite parameters, found {self.length}")
        if self.stride <= 0 or self.base <= 0 or not 0 <= self.levels <= 1024 or not 1 <= self.window <= 64:
            found = f"stride {self.stride}, base {self.base}, {self.levels} levels, window {self.window}"
            raise FormatError(f"time tensor parameters out of range: {found}")
        if self.levels and self.levels * math.log2(max(self.base, 1.0)) > 500:
            raise FormatError(f"encoding base {self.base} with {self.levels} levels overflows")
        if (self.data is None) != (self.rule in WITHOUT_DATA):
            raise FormatError(f"rule {self.rule!r} {'takes no' if self.data is not None else 'needs'} data")
        if self.data is not None and (self.data.values.ndim < 2 or self.data.shape[0] != self.length):
            raise FormatError(f"time tensor data has shape {self.data.shape}, expected ({self.length}, ...)")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what `sample` returns."""
        slices = () if self.data is None else self.data.shape[1:]
        return input_shape(self.rule, self.levels, self.window, slices, self.length)

    def sample(self, t: float) -> FloatArray:
        """The graph input at `t` frames from the segment's start, float32 of shape `input_shape`.

        Raises `ValueError` where t is NaN or infinite, or where this is an axis of a tile.
        """
        if not math.isfinite(t) or self.rule in AXES:
            raise ValueError(f"time must be finite, not {t}, and an axis is sampled with `along`")
        if self.rule == "t":
            place = np.clip(np.array([t + self.offset]), 0.0, self.length - 1.0)
            return encode_positions(coordinates_of(place, self.length), self.base, self.levels).reshape(
                self.input_shape
            )
        if self.data is None:
            return encode(np.clip((t + self.offset) / self.length, 0.0, 1.0), self.base, self.levels)
        return self._slices((t + self.offset) / self.stride, self.data)

    def along(self, coordinates: NDArray[np.float64]) -> FloatArray:
        """The graph input of rule `x` or `y` for a tile at these coordinates: float64 (length,), in [-1, 1] inside.

        Raises `ValueError` where this is no axis or the number of coordinates is not `length`.
        """
        if self.rule not in AXES or coordinates.shape != (self.length,):
            raise ValueError(f"rule {self.rule!r} takes no {coordinates.shape} coordinates")
        return encode_positions(coordinates, self.base, self.levels).reshape(self.input_shape)

    def _slices(self, position: float, data: QuantTensor) -> FloatArray:
        last = self.length - 1
        position = min(max(position, 0.0), float(last))
        if self.rule == "lerp":
            low = int(position)
            near, far = _rows(data, [low]), _rows(data, [min(low + 1, last)])
            return np.asarray(near + (position - low) * (far - near), np.float32)
        centre = math.floor(position + 0.5)
        half = self.window // 2 if self.rule == "window" else 0
        count = self.window if self.rule == "window" else 1
        index = np.clip(np.arange(centre - half, centre - half + count), 0, last)
        return _rows(data, list(index)).reshape(self.input_shape)


def input_shape(rule: str, levels: int, window: int, slice_shape: tuple[int, ...], length: int = 1) -> tuple[int, ...]:
    """Shape of what a time tensor's `sample` or `along` returns.

    slice_shape: of one slice of its data, where it has any. length: of a tile's axis.
    """
    if rule in WITHOUT_DATA:
        return (1, max(1, 2 * levels), length if rule == "y" else 1, length if rule == "x" else 1)
    repeats = window if rule == "window" else 1
    return (1, *(n * repeats for n in slice_shape[:1]), *slice_shape[1:])


def encode(t: float | NDArray[np.float64], base: float, levels: int) -> FloatArray:
    """Positional encoding in float64: (1, 2*levels, 1, 1), sin(pi b^k t) and cos(pi b^k t) interleaved; t in [0, 1].

    NeRV (Chen et al. 2021), eq. 1, with k = 0 .. levels-1 as in its code. levels = 0 returns t.
    """
    return encode_positions(np.array([float(t)]), base, levels).reshape(1, -1, 1, 1)


def encode_positions(positions: NDArray[np.float64], base: float, levels: int) -> FloatArray:
    """The same encoding of many positions (n,), computed in float64: float32 (max(1, 2 * levels), n).

    With base 2 it is the gamma of NeRF (Mildenhall et al. 2020), eq. 4, of coordinates in [-1, 1].
    """
    if levels == 0:
        return positions[None].astype(np.float32)
    angle = (math.pi * float(base) ** np.arange(levels))[:, None] * positions
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).reshape(2 * levels, -1).astype(np.float32)


def coordinates_of(positions: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Coordinates of places on an axis of `size` pixels: the middle of pixel i is at (2 i + 1) / size - 1."""
    return (2 * positions + 1) / size - 1


def _rows(data: QuantTensor, index: list[int]) -> FloatArray:
    values = data.values[index].astype(np.float32)
    if data.axis is None:
        return values * data.scales
    scales = data.scales[index] if data.axis == 0 else data.scales
    shape = [1] * values.ndim
    shape[data.axis] = -1
    return values * scales.reshape(shape)
