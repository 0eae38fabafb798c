"""Tensors to bytes and back: any tensor, any bytes, and the sizes that are promised."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inr_runtime.entropy import MAX_HISTOGRAMS, EncodedTensors, decode_tensors, encode_tensors
from inr_runtime.errors import FormatError, LimitError, NvbError
from inr_runtime.limits import Limits
from inr_runtime.wire import Writer

INT32 = np.iinfo(np.int32)


def round_trip(tensors: list[np.ndarray], axes: list[int | None]) -> EncodedTensors:
    encoded = encode_tensors(tensors, axes)
    decoded = decode_tensors(encoded.data, [tensor.shape for tensor in tensors], axes, Limits())
    assert len(encoded.bits) == len(encoded.models) == len(decoded) == len(tensors)
    for before, after in zip(tensors, decoded, strict=True):
        assert after.dtype == np.int32
        assert after.shape == before.shape
        assert np.array_equal(after, before)
    return encoded


def gaussian(seed: int, sigma: np.ndarray | float, shape: tuple[int, ...]) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(size=shape) * sigma).astype(np.int32)


@st.composite
def tensors_and_axes(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int | None]]:
    tensors, axes = [], []
    for _ in range(draw(st.integers(0, 4))):
        shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
        largest = draw(st.sampled_from([0, 1, 5, 127, 128, 300, 70_000, INT32.max]))
        values = st.integers(max(-largest - 1, INT32.min), largest)
        tensors.append(draw(hnp.arrays(np.int32, shape, elements=values)))
        axes.append(draw(st.sampled_from([None, *range(len(shape))])))
    return tensors, axes


@settings(deadline=None, max_examples=150)
@given(tensors_and_axes())
def test_round_trip(case: tuple[list[np.ndarray], list[int | None]]) -> None:
    round_trip(*case)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.floats(0, 12),
    st.floats(-2, 24),
    st.floats(0, 1),
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=12),
)
def test_round_trip_of_scaled_noise(
    seed: int, spread: float, log_sigma: float, kept: float, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    sigma = np.exp2(log_sigma + rng.uniform(-spread, spread, (shape[0],) + (1,) * (len(shape) - 1)) / 2)
    values = rng.standard_t(4, shape) * sigma * (rng.random(shape) < kept)
    tensor = np.clip(np.rint(values), INT32.min, INT32.max).astype(np.int64)
    round_trip([tensor, np.moveaxis(tensor, 0, -1)], [0, len(shape) - 1])


@pytest.mark.parametrize(
    "tensor",
    [
        np.array([INT32.min, INT32.max]),
        np.array([INT32.min, 0, INT32.max, -1, 1]),
        np.array(INT32.min),
        np.zeros((0, 5), np.int8),
        np.full((3, 4), 77, np.uint8),
        np.arange(-128, 128, dtype=np.int8),
        np.array([[500, 501], [502, 500]], np.uint16),
    ],
)
def test_extremes_round_trip(tensor: np.ndarray) -> None:
    for axis in [None, *range(tensor.ndim)]:
        round_trip([tensor], [axis])


def test_no_tensors() -> None:
    assert round_trip([], []).data == b"\0"


def test_constants_cost_two_bytes() -> None:
    encoded = round_trip([np.full((100, 100), 5), np.array(-3), np.zeros((0, 7), int)], [0, None, 1])
    assert encoded.models == ("constant",) * 3
    assert encoded.bits == (16, 16, 16)
    assert len(encoded.data) == 7


def test_more_histograms_than_allowed_fall_back_to_gaussians() -> None:
    tensor = np.repeat([0, 9], 50)
    encoded = round_trip([tensor] * (MAX_HISTOGRAMS + 2), [None] * (MAX_HISTOGRAMS + 2))
    assert encoded.models == ("histogram",) * MAX_HISTOGRAMS + ("gaussian",) * 2


@pytest.mark.parametrize("tensor", [np.array([2**31]), np.array([2**63], np.uint64), np.array([1.0]), np.array([True])])
def test_only_int32_values_are_taken(tensor: np.ndarray) -> None:
    with pytest.raises(ValueError, match="int32"):
        encode_tensors([tensor], [None])


LEVELS_OF_ROWS = np.exp2(np.arange(12) / 2 - 1)[:, None]
EACH_MODEL = [
    gaussian(0, LEVELS_OF_ROWS, (12, 40)),
    np.repeat([0, 9], 75).reshape(3, 50),
    gaussian(1, 3000, (5, 6)),
    np.full(9, -4),
    np.zeros((0, 3), int),
]
SHAPES = [tensor.shape for tensor in EACH_MODEL]
AXES = [0, None, 1, 0, None]
STREAM = encode_tensors(EACH_MODEL, AXES).data


def test_each_model_is_chosen_where_it_is_due() -> None:
    assert round_trip(EACH_MODEL, AXES).models == ("gaussian", "histogram", "gaussian", "constant", "constant")


def test_every_truncation_raises() -> None:
    for size in range(len(STREAM)):
        with pytest.raises(NvbError):
            decode_tensors(STREAM[:size], SHAPES, AXES, Limits())


@pytest.mark.parametrize("tail", [b"\0", b"\0\0"])
def test_trailing_bytes_raise(tail: bytes) -> None:
    with pytest.raises(NvbError):
        decode_tensors(STREAM + tail, SHAPES, AXES, Limits())


def decode_or_refuse(data: bytes, shapes: list[tuple[int, ...]], axes: list[int | None]) -> None:
    try:
        decoded = decode_tensors(data, shapes, axes, Limits())
    except NvbError:
        return
    assert [tensor.shape for tensor in decoded] == shapes


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([(), (3,), (0, 4), (5, 7), (2, 3, 4)]), st.integers(0, 3))
def test_any_bytes_end_well(data: bytes, shape: tuple[int, ...], count: int) -> None:
    decode_or_refuse(data, [shape] * count, [0 if shape else None] * count)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_altered_bytes_end_well(position: int, change: int) -> None:
    data = bytearray(STREAM)
    data[position % len(data)] ^= change
    decode_or_refuse(bytes(data), SHAPES, AXES)


def test_symbols_are_limited_before_anything_is_read() -> None:
    with pytest.raises(LimitError, match="symbols"):
        decode_tensors(b"", [(1 << 20, 1 << 20), (3,)], [0, None], Limits())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Writer().raw(b"\3").signed(0), "model 3"),
        (Writer().raw(b"\4").signed(0), "model 0 with shift 1"),
        (Writer().raw(b"\x81").signed(0), "shift 32"),
        (Writer().raw(b"\0").signed(1 << 31), "centre"),
        (Writer().raw(b"\1").signed(0).raw(b"\5\x50"), "spread 80"),
        (Writer().raw(b"\2").signed(0).raw(b"\5\5\0\0"), "histogram of 0"),
        (Writer().raw(b"\2").signed(0).raw(b"\5\5\x80\x80"), "histogram of 128"),
        (Writer().raw(b"\1").signed(0).raw(b"\x50\0\0"), "outside 0 … 79"),
        (Writer().raw(b"\2").signed(0).raw(b"\x72\0\5\5\0"), "outside 0 … 113"),
        (Writer().raw(b"\2").signed(0).raw(b"\0\0\5\5\0"), "histogram is empty"),
        (Writer().raw(b"\1").signed(2**31 - 1).raw(b"\5\0\0\0\0\0\1\0"), None),
    ],
)
def test_impossible_headers_are_named(fields: Writer, message: str | None) -> None:
    with pytest.raises(NvbError if message is None else FormatError, match=message):
        decode_tensors(fields.bytes_(), [(2,)], [None], Limits())


def test_values_beyond_int32_are_refused() -> None:
    data = bytearray(encode_tensors([np.array([0, 1, 1, 2])], [None]).data)
    raised = data[:1] + Writer().signed(INT32.max).bytes_() + data[2:]
    with pytest.raises(FormatError, match="32 bits"):
        decode_tensors(bytes(raised), [(4,)], [None], Limits())


@pytest.mark.parametrize("sigma", [1, 2, 4.3, 10, 13, 20, 40])
@pytest.mark.parametrize("per_row", [False, True])
def test_gaussian_data_costs_its_entropy(sigma: float, per_row: bool) -> None:
    grid = np.arange(-400, 401)
    exact = np.exp(-(grid**2) / (2 * sigma**2))
    exact /= exact.sum()
    tensor = np.random.default_rng(3).choice(grid, (20, 10_000), p=exact)
    encoded = encode_tensors([tensor], [0 if per_row else None])
    information = -np.log2(exact[tensor + 400]).sum()
    assert encoded.bits[0] <= information * 1.003
    assert len(encoded.data) * 8 <= information * 1.005


def test_streams_are_near_the_ideal_length() -> None:
    sigma = np.exp2(np.random.default_rng(5).normal(3, 0.5, (20, 1)))
    for size, count in ((1000, 1), (360, 10), (10_000, 2)):
        tensors = [gaussian(seed, sigma, (20, size)) for seed in range(count)]
        encoded = round_trip(tensors, [0] * count)
        assert len(encoded.data) * 8 <= sum(encoded.bits) * 1.005


def test_levels_of_rows_are_cheap() -> None:
    sigma = np.exp2(np.random.default_rng(6).normal(3, 0.3, (500, 1)))
    tensor = gaussian(7, sigma, (500, 200))
    encoded = encode_tensors([tensor], [0])
    entropy = -np.log2(np.exp(-((tensor / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))).sum()
    assert encoded.models == ("gaussian",)
    assert encoded.bits[0] - entropy <= 4 * 500 + 0.002 * entropy


def test_pruned_tensors_get_a_histogram() -> None:
    rng = np.random.default_rng(8)
    tensor = gaussian(9, 12, (50, 500)) * (rng.random((50, 500)) > 0.6)
    counts = np.unique(tensor, return_counts=True)[1] / tensor.size
    encoded = round_trip([tensor], [0])
    assert encoded.models == ("histogram",)
    assert encoded.bits[0] <= -(counts * np.log2(counts)).sum() * tensor.size * 1.01


def test_the_format_is_frozen() -> None:
    number = np.arange(24_000) * 2654435761 % (1 << 32)
    noise = sum((number >> bits & 255) - 128 for bits in (0, 7, 13, 19, 24)).reshape(12, 2000)
    scaled = noise >> np.arange(12)[:, None]
    tensors = [scaled, noise * 1000, np.where(noise % 3, 0, noise // 4), np.full(5, 9)]
    encoded = round_trip(tensors, [0, 1, None, None])
    assert (
        hashlib.sha256(encoded.data).hexdigest() == "d5a4f204711249b2547f3a38dac35db28380222b5baaad9943a72a931e1b3a2e"
    )
