"""What "quantized" means: integers times scales on a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inr_runtime.errors import FormatError
from inr_runtime.tensors import SCALE_CODE_RANGE, STEPS_PER_OCTAVE, QuantTensor, quantize, scale_of

QUICK = settings(deadline=None, max_examples=100)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def drawn(seed: int, shape: tuple[int, ...], octaves: float) -> NDArray[np.float32]:
    """Normal numbers at a magnitude of 2**octaves, a few of them zero."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2.0**octaves, shape) * (rng.random(shape) > 0.1)
    return values.astype(np.float32)


def slices(array: NDArray[np.generic], axis: int | None) -> NDArray[np.generic]:
    """As (scales, values of one scale)."""
    return array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


@QUICK
@given(st.integers(0, 2**32), SHAPES, st.integers(2, 16), st.floats(-20, 20), st.data())
def test_every_number_is_within_half_a_step(
    seed: int, shape: tuple[int, ...], bits: int, octaves: float, data: st.DataObject
) -> None:
    array = drawn(seed, shape, octaves)
    axis = data.draw(st.sampled_from([None, *range(len(shape))]))
    tensor = quantize(array, bits, axis)
    top = 2 ** (bits - 1) - 1
    assert tensor.shape == shape
    assert np.abs(tensor.values).max() <= top
    assert (tensor.dequantize().shape, tensor.dequantize().dtype) == (shape, np.float32)
    errors = np.abs(slices(tensor.dequantize().astype(np.float64) - array, axis)).max(axis=1)
    assert (errors <= tensor.scales * (0.5 + top * 2e-7)).all()  # float32 holds the number itself to 6e-8


@QUICK
@given(st.integers(0, 2**32), st.integers(2, 16), st.floats(-20, 20))
def test_a_scale_is_the_smallest_of_the_grid_that_holds_its_slice(seed: int, bits: int, octaves: float) -> None:
    array = drawn(seed, (4, 9), octaves)
    array[:, 0] = 2.0**octaves
    tensor, top = quantize(array, bits, 0), 2 ** (bits - 1) - 1
    tightest = np.abs(array).max(axis=1).astype(np.float64) / top
    assert (tensor.scales >= tightest * (1 - 1e-6)).all()
    assert (tensor.scales <= tightest * 1.011).all()
    assert (scale_of(tensor.scale_codes - 1) < tightest).all()
    # Scaling within a step never costs a level: the largest number comes out as the largest integer, or 1 % below.
    assert (np.abs(tensor.values).max(axis=1) >= math.floor(top / 1.011)).all()


def test_halves_round_to_even() -> None:
    top = np.float32(127.0)
    tensor = quantize(np.array([top, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32), 8)
    assert tensor.scale_codes.tolist() == [0]
    assert tensor.values.tolist() == [127, 0, 2, 2, 0, -2, -2]


def test_slices_of_zeros_take_the_median_scale_of_the_others() -> None:
    array = np.zeros((5, 3), np.float32)
    array[1], array[2], array[4] = 1.0, 2.0, 1024.0
    tensor = quantize(array, 8, axis=0)
    codes = tensor.scale_codes
    assert codes[0] == codes[3] == codes[2] == codes[1] + STEPS_PER_OCTAVE
    assert not tensor.values[[0, 3]].any()


@pytest.mark.parametrize("axis", [None, 0])
def test_a_tensor_of_zeros_has_scale_one(axis: int | None) -> None:
    tensor = quantize(np.zeros((3, 2), np.float32), 8, axis)
    assert not tensor.values.any()
    assert (tensor.scales == 1).all()


def test_numbers_below_every_scale_are_zeros() -> None:
    tensor = quantize(np.full((2, 2), 1e-30, np.float32), 8, 0)
    assert not tensor.values.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(FormatError, match="NaN or infinity"):
        quantize(np.array([1.0, bad], np.float32), 8)


def test_numbers_above_every_scale_are_refused_rather_than_clipped() -> None:
    largest = np.full(3, 127 * 2.0**24, np.float32)
    assert np.array_equal(quantize(largest, 8).dequantize(), largest)
    with pytest.raises(FormatError, match="too large for 8 bits"):
        quantize(largest * 1.01, 8)


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_are_2_to_16(bits: int) -> None:
    with pytest.raises(ValueError, match=str(bits)):
        quantize(np.ones(3, np.float32), bits)


def test_a_step_of_the_grid_is_a_64th_of_an_octave() -> None:
    codes = np.array([-64 * 40, -64, 0, 1, 64, 64 * 24], np.int32)
    assert scale_of(codes).tolist() == [2.0**-40, 0.5, 1.0, float(np.float32(2 ** (1 / 64))), 2.0, 2.0**24]
    assert scale_of(codes).dtype == np.float32


@pytest.mark.parametrize("code", [SCALE_CODE_RANGE[0] - 1, SCALE_CODE_RANGE[1] + 1, 2**31 - 1, -(2**31)])
def test_scales_off_the_grid_are_refused(code: int) -> None:
    with pytest.raises(FormatError, match="scale codes"):
        QuantTensor(np.zeros((2, 2), np.int32), np.array([0, code], np.int32), 0)


@pytest.mark.parametrize(("codes", "axis"), [((1,), 0), ((3,), 0), ((2, 1), 0), ((), None), ((2,), None), ((2,), 1)])
def test_scales_must_be_one_per_slice(codes: tuple[int, ...], axis: int | None) -> None:
    with pytest.raises(FormatError, match="scales"):
        QuantTensor(np.zeros((2, 5), np.int32), np.zeros(codes, np.int32), axis)


@pytest.mark.parametrize("axis", [-1, 2, 255])
def test_an_axis_must_be_one_of_the_tensors(axis: int) -> None:
    with pytest.raises(FormatError, match=f"axis {axis}"):
        QuantTensor(np.zeros((2, 5), np.int32), np.zeros(2, np.int32), axis)
