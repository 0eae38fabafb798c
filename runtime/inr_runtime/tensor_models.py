"""The model of one integer tensor: which one codes it in the fewest bits, and how it turns symbols into values.

A tensor is centre + high * 2**shift + low - 2**shift // 2 with `high` in -127 … 127 and `low` in 0 … 2**shift - 1.
`high` is coded with a Gaussian whose level is chosen per row, or with one histogram for the tensor; `low` is sent as
it is. The levels of the rows, or the logs of the histogram, are the model's parameters. They are sent as residuals,
which are coded with the Gaussian of level `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import FormatError
from inr_runtime.gaussian import LEVELS, REACH, gaussian_bits, gaussian_tables
from inr_runtime.histogram import MAX_LOG, fit_histogram, histogram_table
from inr_runtime.rans import AnyInts, Ints

CONSTANT, GAUSSIAN, HISTOGRAM = range(3)
MODEL_NAMES = ("constant", "gaussian", "histogram")

# More than enough for the difference of any two int32, which needs 26.
MAX_SHIFT = 31

# Shorter rows cannot earn back a level of their own.
_MIN_ROW = 8
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Layout:
    """A tensor's shape and the axis whose indices are its rows; None stands for a single row."""

    shape: tuple[int, ...]
    axis: int | None

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return 1 if self.axis is None else self.shape[self.axis]

    def by_row(self, values: Ints) -> Ints:
        """Arrange (size,) values as (rows, size / rows)."""
        return np.moveaxis(values.reshape(self.shape), self.axis or 0, 0).reshape(self.rows, -1)

    def per_value(self, of_row: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Return (size,): for each value the entry of its row in `of_row`, (rows,)."""
        shape = [1] * len(self.shape)
        if self.axis is not None:
            shape[self.axis] = self.rows
        return np.broadcast_to(of_row.reshape(shape), self.shape).ravel()


@dataclass(frozen=True)
class TensorModel:
    """All that is known about a tensor ahead of its symbols: its layout, and what the stream's header says.

    `base` predicts the parameters; `spread` is the Gaussian level of what that leaves, 0 where it leaves nothing.
    A histogram spans the `bins` symbols from `low`.
    """

    layout: Layout
    kind: int
    centre: int = 0
    shift: int = 0
    base: int = 0
    spread: int = 0
    low: int = 0
    bins: int = 0

    @property
    def symbol_count(self) -> int:
        """Number of symbols in the main stream."""
        return 0 if self.kind == CONSTANT else self.layout.size

    @property
    def parameter_count(self) -> int:
        """Number of levels or logs."""
        return (0, self.layout.rows, self.bins)[self.kind]

    def parameters(self, residuals: Ints) -> Ints:
        """Return the levels of the rows or the logs of the histogram; `FormatError` where they are out of range."""
        parameters = self.base + (np.cumsum(residuals) if self.kind == HISTOGRAM else residuals)
        highest = MAX_LOG if self.kind == HISTOGRAM else LEVELS - 1
        if (parameters < 0).any() or (parameters > highest).any():
            raise FormatError(f"entropy-coded tensor: a {MODEL_NAMES[self.kind]} parameter is outside 0 … {highest}")
        if self.kind == HISTOGRAM and not parameters.any():
            raise FormatError("entropy-coded tensor: its histogram is empty")
        return parameters

    def split(self, values: Ints) -> tuple[Ints, Ints]:
        """Return the `high` and `low` parts of values."""
        rounded = values + ((1 << self.shift >> 1) - self.centre)
        high = rounded >> self.shift
        return high, rounded - (high << self.shift)

    def join(self, high: AnyInts, low: Ints) -> NDArray[np.int32]:
        """Return the tensor of `high` and `low`; `FormatError` where it exceeds int32."""
        if self.kind == CONSTANT:
            return np.full(self.layout.shape, self.centre, np.int32)
        values = (high.astype(np.int64) << self.shift) + low + (self.centre - (1 << self.shift >> 1))
        if values.min() < _INT32.min or values.max() > _INT32.max:
            raise FormatError("entropy-coded tensor: a value exceeds 32 bits")
        return values.astype(np.int32).reshape(self.layout.shape)


@dataclass(frozen=True, eq=False)
class Fit:
    """The chosen model of a tensor with its parameter residuals, its symbols, its low parts, and their bits.

    The bits count all of those, but not the header; side: those of the parameters.
    """

    model: TensorModel
    residuals: Ints
    high: Ints
    low: Ints
    bits: float
    side: float = 0.0


def fit_tensor(values: Ints, layout: Layout, allow_histogram: bool) -> Fit:
    """Choose the model that codes `values`, (size,) in the range of int32, in the fewest bits."""
    nothing = np.empty(0, np.int64)
    centre = _median(values) if len(values) else 0
    if (values == centre).all():
        return Fit(TensorModel(layout, CONSTANT, centre), nothing, nothing, nothing, 0.0)
    extremes = np.array([values.min(), values.max()])
    frames = (TensorModel(layout, GAUSSIAN, centre, shift) for shift in range(MAX_SHIFT + 1))
    frame = next(frame for frame in frames if np.abs(frame.split(extremes)[0]).max() <= REACH)
    high, low = frame.split(values)
    fits = [_fit_single(frame, high), _fit_rows(frame, high)] + [_fit_histogram(frame, high)] * allow_histogram
    # A histogram's header is 16 bits longer.
    model, residuals, bits, side = min(fits, key=lambda fit: fit[2] + 16 * (fit[0].kind == HISTOGRAM))
    return Fit(model, residuals, high, low, bits + frame.shift * len(values), side)


def _fit_single(frame: TensorModel, high: Ints) -> tuple[TensorModel, Ints, float, float]:
    """Choose one Gaussian level for the tensor."""
    level, bits = _best_level(high)
    return replace(frame, base=level), np.zeros(frame.layout.rows, np.int64), bits, 0.0


def _fit_rows(frame: TensorModel, high: Ints) -> tuple[TensorModel, Ints, float, float]:
    """Choose a Gaussian level for each row, counting what the levels themselves cost."""
    rows = frame.layout.rows
    if rows == 1 or len(high) < _MIN_ROW * rows:
        return frame, np.zeros(rows, np.int64), np.inf, 0.0
    costs = gaussian_bits(frame.layout.by_row(high))
    levels = costs.argmin(axis=1)
    base = _median(levels)
    spread, _ = _best_level(levels - base)
    costs_of_level = gaussian_tables().code_lengths()[spread, REACH - base : REACH - base + LEVELS]
    levels = (costs + costs_of_level).argmin(axis=1)
    spread, side = _best_level(levels - base)
    bits = float(np.take_along_axis(costs, levels[:, None], axis=1).sum()) + side
    return replace(frame, base=base, spread=spread), levels - base, bits, side


def _fit_histogram(frame: TensorModel, high: Ints) -> tuple[TensorModel, Ints, float, float]:
    """Fit a histogram."""
    low, logs = fit_histogram(high)
    residuals = np.diff(logs, prepend=logs[0])
    spread, side = _best_level(residuals)
    model = replace(frame, kind=HISTOGRAM, base=int(logs[0]), spread=spread, low=low, bins=len(logs))
    lengths = histogram_table(low, logs).code_lengths()[0]
    return model, residuals, float(lengths[high + REACH].sum()) + side, side


def _best_level(symbols: Ints) -> tuple[int, float]:
    """Return the single Gaussian level that codes symbols in the fewest bits, and those bits."""
    bits = gaussian_bits(symbols[None, :])[0]
    return int(bits.argmin()), float(bits.min())


def _median(values: Ints) -> int:
    """Return the upper median, which is one of the values."""
    return int(np.partition(values, len(values) // 2)[len(values) // 2])
