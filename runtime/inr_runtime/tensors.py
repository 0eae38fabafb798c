"""The one meaning of "quantized" in this project: integers times powers of two to the 1/64.

A weight is stored as integers `values` and, per slice along `axis`, an integer `scale_codes`;
its real value is `values * 2 ** (scale_codes / 64)`. Scales on a logarithmic integer grid are
finite and positive by construction, cost about five coded bits each, and are at most 1.1 % larger than
the tightest scale. `quantize` is the definition; training imitates it in PyTorch and a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import FormatError

STEPS_PER_OCTAVE = 64
SCALE_CODE_RANGE = (-64 * 40, 64 * 24)
"""Scales between 2^-40 and 2^24: below, a tensor is zero for every use; above, float32 sums overflow."""

SCALE_SLACK = 2e-5
"""Of a step between scales: float32 products of the largest integer and a scale ask for that very scale again."""

SMALLEST_SCALE = 2.0 ** (SCALE_CODE_RANGE[0] / STEPS_PER_OCTAVE)

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


def scale_of(codes: IntArray) -> FloatArray:
    """Scales as float32 from their integer codes: 2^(code/64)."""
    return np.exp2(codes.astype(np.float64) / STEPS_PER_OCTAVE).astype(np.float32)


@dataclass(frozen=True)
class QuantTensor:
    """Integers with scales.

    values: int32, any shape. scale_codes: int32 of shape (values.shape[axis],), or (1,) if `axis` is None.
    Raises `FormatError` at construction where codes leave `SCALE_CODE_RANGE` or shapes and axis disagree.
    """

    values: IntArray
    scale_codes: IntArray
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.axis is not None and not 0 <= self.axis < self.values.ndim:
            raise FormatError(f"scale axis {self.axis} does not fit a tensor of shape {self.values.shape}")
        expected = 1 if self.axis is None else self.values.shape[self.axis]
        if self.scale_codes.shape != (expected,):
            raise FormatError(f"expected {expected} scales, found shape {self.scale_codes.shape}")
        low, high = SCALE_CODE_RANGE
        if expected and not (low <= self.scale_codes.min() and self.scale_codes.max() <= high):
            raise FormatError(f"scale codes must lie in [{low}, {high}]")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.values.shape

    @property
    def scales(self) -> FloatArray:
        """float32 scales, shape (values.shape[axis],) or (1,)."""
        return scale_of(self.scale_codes)

    def dequantize(self) -> FloatArray:
        """The real tensor, float32, same shape."""
        return self.values.astype(np.float32) * _along(self.scales, self.axis, self.values.ndim)


def quantize(array: NDArray[np.floating], bits: int, axis: int | None = None) -> QuantTensor:
    """Round `array` to symmetric `bits`-bit integers in [-(2^(bits-1)-1), 2^(bits-1)-1].

    The scale of a slice is the smallest on the grid that holds its largest magnitude. A slice that the smallest scale
    of all would hold becomes zero, with the median scale of the others. Rounds half to even. bits: 2 to 16.
    Raises `FormatError` where `array` holds NaN, infinity, or a number that the largest scale cannot hold.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits must be 2 to 16, not {bits}")
    if not np.isfinite(array).all():
        raise FormatError("a tensor holds NaN or infinity and cannot be quantized")
    top = 2 ** (bits - 1) - 1
    peak = _peaks(np.asarray(array, np.float64), axis)
    if peak.max(initial=0.0) > top * 2.0 ** (SCALE_CODE_RANGE[1] / STEPS_PER_OCTAVE):
        raise FormatError(f"a tensor holds {peak.max():g}, which is too large for {bits} bits")
    codes = _codes_holding(peak / top)
    scale = _along(scale_of(codes), axis, array.ndim)
    values = np.clip(np.rint(np.asarray(array, np.float32) / scale), -top, top)
    values *= _along((peak / top > SMALLEST_SCALE).astype(np.float32), axis, array.ndim)
    return QuantTensor(values.astype(np.int32), codes, axis)


def _peaks(array: NDArray[np.float64], axis: int | None) -> NDArray[np.float64]:
    if axis is None:
        return np.full(1, np.abs(array).max(initial=0.0))
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return np.asarray(np.abs(rows).max(axis=1, initial=0.0), np.float64)


def _codes_holding(scale: NDArray[np.float64]) -> IntArray:
    low, high = SCALE_CODE_RANGE
    used = scale > SMALLEST_SCALE
    codes = np.ceil(np.log2(np.maximum(scale, SMALLEST_SCALE)) * STEPS_PER_OCTAVE - SCALE_SLACK)
    codes[~used] = np.median(codes[used]) if used.any() else 0
    return np.asarray(np.clip(codes, low, high), np.int32)


def _along(scale: FloatArray, axis: int | None, ndim: int) -> FloatArray:
    shape = [1] * ndim
    if axis is not None:
        shape[axis] = -1
    return scale.reshape(shape)
