"""Integer tensors as one entropy-coded stream.

    header of each tensor       u8 kind | shift << 2, zigzag varint centre; unless constant u8 base, u8 spread;
                                for a histogram u8 low + 127, u8 bins
    varint length, side stream  rANS of the parameter residuals of the tensors whose spread is above 0
    low parts                   bit planes, tensor by tensor, the least significant first, 8 to a byte
    main stream                 rANS of the symbols of the tensors that are not constant

The words are explained in `tensor_models.py`, the coder in `rans.py`. Shapes and axes are not in the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import FormatError
from inr_runtime.gaussian import ALPHABET, LEVELS, REACH, gaussian_tables
from inr_runtime.histogram import histogram_table
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.rans import AnyInts, FrequencyTables, Ints, decode_symbols, encode_symbols
from inr_runtime.tensor_models import (
    CONSTANT,
    GAUSSIAN,
    HISTOGRAM,
    MAX_SHIFT,
    MODEL_NAMES,
    Fit,
    Layout,
    TensorModel,
    fit_tensor,
)
from inr_runtime.wire import Reader, Writer

MAX_HISTOGRAMS = 256

_INT32 = np.iinfo(np.int32)
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class EncodedTensors:
    """One stream and what each tensor in it costs.

    `bits` is per tensor: the ideal code length of its symbols under its model plus its header, parameters and low
    parts. `data` exceeds their sum by the rANS states. `table_bits` is what header and parameters take of it. `models`
    is per tensor 'constant', 'gaussian' or 'histogram'.
    """

    data: bytes
    bits: tuple[float, ...]
    table_bits: tuple[float, ...]
    models: tuple[str, ...]


def encode_tensors(tensors: Sequence[AnyInts], axes: Sequence[int | None]) -> EncodedTensors:
    """Code integer tensors, of any shape and with values in the range of int32, as one stream.

    `axes` names for each tensor the axis whose indices differ in scale (its channels), or None. Raises `ValueError`
    where a tensor is not one of integers or a value exceeds int32.
    """
    fits: list[Fit] = []
    histograms = 0
    for tensor, axis in zip(tensors, axes, strict=True):
        fits.append(fit_tensor(_flat(tensor), Layout(tensor.shape, axis), histograms < MAX_HISTOGRAMS))
        histograms += fits[-1].model.kind == HISTOGRAM
    headers = [_header(fit.model) for fit in fits]
    tables, rows = _assign_tables([fit.model for fit in fits], [fit.residuals for fit in fits])
    main = encode_symbols(_concatenate([fit.high for fit in fits]), rows, tables)
    writer = Writer().raw(b"".join(headers)).blob(_encode_side(fits)).raw(_pack_low(fits)).raw(main)
    bits = tuple(fit.bits + 8 * len(header) for fit, header in zip(fits, headers, strict=True))
    table_bits = tuple(fit.side + 8 * len(header) for fit, header in zip(fits, headers, strict=True))
    return EncodedTensors(writer.bytes_(), bits, table_bits, tuple(MODEL_NAMES[fit.model.kind] for fit in fits))


def decode_tensors(
    data: bytes,
    shapes: Sequence[tuple[int, ...]],
    axes: Sequence[int | None],
    limits: Limits = DEFAULT_LIMITS,
) -> list[NDArray[np.int32]]:
    """Return the int32 tensors of a stream that `encode_tensors` wrote, given their shapes and axes.

    Raises `LimitError` where the shapes hold more than `limits.symbols` values; `TruncatedError`, `FormatError` or
    `ChecksumError` where the stream is not one of tensors of these shapes.
    """
    layouts = [Layout(tuple(shape), axis) for shape, axis in zip(shapes, axes, strict=True)]
    limits.check("symbols", sum(layout.size for layout in layouts), "entropy-coded tensors: number of values")
    reader = Reader(data, "entropy-coded tensors")
    models = [_read_header(reader, layout) for layout in layouts]
    if sum(model.kind == HISTOGRAM for model in models) > MAX_HISTOGRAMS:
        raise FormatError(f"entropy-coded tensors: more than {MAX_HISTOGRAMS} histograms")
    residuals = _decode_side(reader.blob(reader.left), models)
    lows = _unpack_low(reader, models)
    tables, rows = _assign_tables(models, residuals)
    symbols = decode_symbols(reader.raw(reader.left), rows, tables)
    highs = _split(symbols, [model.symbol_count for model in models])
    return [model.join(high, low) for model, high, low in zip(models, highs, lows, strict=True)]


def _assign_tables(
    models: Sequence[TensorModel], residuals: Sequence[Ints]
) -> tuple[FrequencyTables, NDArray[np.uint16]]:
    """Return the tables of all tensors, Gaussians first, and the row of each symbol of the main stream."""
    counts, rows = [gaussian_tables().counts], [np.empty(0, np.uint16)]
    for model, residual in zip(models, residuals, strict=True):
        if model.kind == GAUSSIAN:
            rows.append(model.layout.per_value(model.parameters(residual).astype(np.uint16)))
        elif model.kind == HISTOGRAM:
            rows.append(np.full(model.symbol_count, LEVELS + len(counts) - 1, np.uint16))
            counts.append(histogram_table(model.low, model.parameters(residual)).counts)
    return FrequencyTables(np.concatenate(counts), -REACH), np.concatenate(rows)


def _encode_side(fits: Sequence[Fit]) -> bytes:
    """Return the side stream."""
    sent = [fit for fit in fits if fit.model.spread]
    spreads = np.array([fit.model.spread for fit in sent], np.uint8)
    rows = np.repeat(spreads, [len(fit.residuals) for fit in sent])
    return encode_symbols(_concatenate([fit.residuals for fit in sent]), rows, gaussian_tables())


def _decode_side(data: bytes, models: Sequence[TensorModel]) -> list[Ints]:
    """Return the parameter residuals of every tensor, zeros where its spread is 0."""
    counts = [model.parameter_count for model in models]
    spreads = np.repeat(np.array([model.spread for model in models], np.uint8), counts)
    residuals = np.zeros(len(spreads), np.int64)
    sent = spreads > 0
    residuals[sent] = decode_symbols(data, spreads[sent], gaussian_tables())
    return _split(residuals, counts)


def _pack_low(fits: Sequence[Fit]) -> bytes:
    """Return the bit planes of the low parts."""
    planes = [fit.low >> bit & 1 for fit in fits for bit in range(fit.model.shift)]
    return np.packbits(_concatenate(planes).astype(np.uint8)).tobytes()


def _unpack_low(reader: Reader, models: Sequence[TensorModel]) -> list[Ints]:
    """Return the low parts of every tensor."""
    counts = [model.shift * model.symbol_count for model in models]
    packed = np.frombuffer(reader.raw((sum(counts) + 7) // 8), np.uint8)
    lows = [np.zeros(model.symbol_count, np.int64) for model in models]
    for low, bits in zip(lows, _split(np.unpackbits(packed), counts), strict=True):
        for bit, plane in enumerate(_split(bits, [len(low)] * (len(bits) // max(1, len(low))))):
            low |= plane.astype(np.int64) << bit
    return lows


def _header(model: TensorModel) -> bytes:
    """Return the header of a tensor."""
    writer = Writer().raw(bytes([model.kind | model.shift << 2])).signed(model.centre)
    if model.kind != CONSTANT:
        writer.raw(bytes([model.base, model.spread]))
    if model.kind == HISTOGRAM:
        writer.raw(bytes([model.low + REACH, model.bins]))
    return writer.bytes_()


def _read_header(reader: Reader, layout: Layout) -> TensorModel:
    """Read the header of a tensor."""
    first, centre = reader.raw(1)[0], reader.signed()
    kind, shift = first & 3, first >> 2
    if not _INT32.min <= centre <= _INT32.max:
        raise FormatError(f"{reader.what}: a tensor's centre {centre} exceeds 32 bits")
    if kind == CONSTANT and shift == 0:
        return TensorModel(layout, kind, centre)
    if kind not in (GAUSSIAN, HISTOGRAM) or shift > MAX_SHIFT or layout.size == 0:
        raise FormatError(f"{reader.what}: model {kind} with shift {shift} is not allowed for shape {layout.shape}")
    base, spread = reader.raw(2)
    if spread >= LEVELS:
        raise FormatError(f"{reader.what}: spread {spread} is not below {LEVELS}")
    if kind == GAUSSIAN:
        return TensorModel(layout, kind, centre, shift, base, spread)
    low, bins = reader.raw(2)
    if bins == 0 or low + bins > ALPHABET:
        raise FormatError(f"{reader.what}: a histogram of {bins} symbols from {low - REACH}")
    return TensorModel(layout, kind, centre, shift, base, spread, low - REACH, bins)


def _flat(tensor: AnyInts) -> Ints:
    """Return a tensor's values, (size,) int64; `ValueError` where they are no integers of 32 bits."""
    if tensor.dtype.kind not in "iu" or (tensor.size and not _INT32.min <= tensor.min() <= tensor.max() <= _INT32.max):
        raise ValueError(f"only integers in the range of int32 can be coded, not {tensor.dtype} {tensor.shape}")
    return tensor.ravel().astype(np.int64)


def _concatenate(arrays: Sequence[Ints]) -> Ints:
    """Concatenate any number of arrays, none included."""
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _split(array: NDArray[_Scalar], counts: Sequence[int]) -> list[NDArray[_Scalar]]:
    """Cut an array into pieces of the given lengths."""
    return [array[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]
