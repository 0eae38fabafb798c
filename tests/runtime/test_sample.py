"""From a moment to what the graph is fed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime.errors import FormatError
from inr_runtime.sample import AXES, RULES, WITHOUT_DATA, TimeTensor
from inr_runtime.tensors import QuantTensor

QUICK = settings(deadline=None, max_examples=100)
TIME_RULES = [rule for rule in RULES if rule not in AXES]
GRID_RULES = [rule for rule in RULES if rule not in WITHOUT_DATA]
ONE_ULP = 2.0**-24


def grid(length: int = 5, slice_shape: tuple[int, ...] = (2, 3), axis: int | None = None) -> QuantTensor:
    """Integers that are all different, with scales that differ too."""
    values = np.arange(length * math.prod(slice_shape), dtype=np.int32).reshape(length, *slice_shape) - 7
    count = 1 if axis is None else values.shape[axis]
    return QuantTensor(values, np.arange(count, dtype=np.int32) * 40 - 100, axis)


def tensor(rule: str, **changes: Any) -> TimeTensor:
    if rule in WITHOUT_DATA:
        return TimeTensor(**{"rule": rule, "length": 12, "levels": 4, **changes})
    data = changes.pop("data", grid())
    return TimeTensor(rule, len(data.values), data=data, **changes)


def test_the_encoding_is_the_papers() -> None:
    """NeRV, eq. 1 with b = 1.25 and l = 80, of 132 frames; arguments reach 1.4e8, where float32 knows no phase."""
    time = TimeTensor("encoding", 132, base=1.25, levels=80)
    assert time.input_shape == (1, 160, 1, 1)
    for frame in range(132):
        t = frame / 132
        pairs = [f(math.pi * 1.25**k * t) for k in range(80) for f in (math.sin, math.cos)]
        sample = time.sample(float(frame))
        assert (sample.shape, sample.dtype) == (time.input_shape, np.float32)
        assert np.abs(sample.ravel() - np.array(pairs)).max() <= ONE_ULP


def test_without_levels_the_encoding_is_time_itself() -> None:
    time = TimeTensor("encoding", 8)
    assert time.input_shape == (1, 1, 1, 1)
    assert [time.sample(t).item() for t in (0.0, 1.0, 2.5, 8.0)] == [0.0, 0.125, 0.3125, 1.0]


def test_row_takes_the_nearest_slice() -> None:
    time = tensor("row")
    slices = time.data.dequantize()  # type: ignore[union-attr]
    for t, index in ((0.0, 0), (0.49, 0), (0.5, 1), (1.49, 1), (3.5, 4), (4.0, 4)):
        assert np.array_equal(time.sample(t), slices[index : index + 1])


def test_lerp_blends_the_two_slices_around() -> None:
    time = tensor("lerp")
    slices = time.data.dequantize()  # type: ignore[union-attr]
    np.testing.assert_allclose(time.sample(1.25)[0], 0.75 * slices[1] + 0.25 * slices[2], rtol=1e-6)
    np.testing.assert_allclose(time.sample(3.999)[0], 0.001 * slices[3] + 0.999 * slices[4], rtol=1e-6)


@QUICK
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_lerp_at_a_slice_is_that_slice_bit_for_bit(seed: int, length: int) -> None:
    """Numbers of very different size, where near + (far - near) is not far."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-64 * 30, 64 * 20, length).astype(np.int32)
    data = QuantTensor(rng.integers(-32767, 32768, (length, 4)).astype(np.int32), codes, 0)
    time = TimeTensor("lerp", length, stride=2.0, data=data)
    for index in range(length):
        assert np.array_equal(time.sample(2.0 * index)[0], data.dequantize()[index])


@pytest.mark.parametrize(("window", "first"), [(1, 0), (2, -1), (3, -1), (4, -2), (5, -2)])
@pytest.mark.parametrize("t", [0, 1, 2, 4])
def test_a_window_surrounds_its_slice_and_repeats_the_ends(window: int, first: int, t: int) -> None:
    time = tensor("window", window=window)
    assert time.input_shape == (1, 2 * window, 3)
    slices = time.data.dequantize()  # type: ignore[union-attr]
    wanted = [slices[min(max(t + first + i, 0), 4)] for i in range(window)]
    assert np.array_equal(time.sample(float(t)), np.concatenate(wanted)[None])


def test_a_window_may_be_longer_than_the_video() -> None:
    time = tensor("window", data=grid(length=1), window=5)
    assert np.array_equal(time.sample(0.0), np.tile(time.data.dequantize(), (1, 5, 1)))  # type: ignore[union-attr]


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("rule", GRID_RULES)
def test_scales_may_stand_along_any_axis(rule: str, axis: int | None) -> None:
    time = tensor(rule, data=grid(axis=axis))
    for t in range(5):
        assert np.array_equal(time.sample(float(t))[0], time.data.dequantize()[t])  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", [*GRID_RULES, "encoding"])
def test_offset_and_stride_are_in_frames(rule: str) -> None:
    time = tensor(rule)
    assert np.array_equal(replace(time, offset=1.5).sample(1.0), time.sample(2.5))
    if rule != "encoding":
        assert np.array_equal(replace(time, stride=4.0).sample(10.0), time.sample(2.5))


@pytest.mark.parametrize("rule", TIME_RULES)
def test_time_is_clamped_to_the_segment(rule: str) -> None:
    time = tensor(rule)
    end = {"encoding": 12.0, "t": 11.0}.get(rule, 4.0)
    for t in (-0.1, -5.0, -1e308):
        assert np.array_equal(time.sample(t), time.sample(0.0))
    for t in (end + 0.1, 99.0, 1e308):
        assert np.array_equal(time.sample(t), time.sample(end))
    far = replace(time, offset=1e308, stride=1e-300)
    assert np.array_equal(far.sample(1e308), time.sample(end))


@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", RULES)
def test_no_time_is_refused(rule: str, t: float) -> None:
    with pytest.raises(ValueError, match="time must be finite"):
        tensor(rule).sample(t)


@QUICK
@given(
    st.sampled_from(TIME_RULES),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e3, 1e3),
)
def test_a_sample_always_has_the_shape_that_was_promised(rule: str, t: float, offset: float) -> None:
    time = tensor(rule, offset=offset, window=4)
    sample = time.sample(t)
    assert (sample.shape, sample.dtype) == (time.input_shape, np.float32)
    assert np.isfinite(sample).all()


BAD: dict[str, dict[str, Any]] = {
    "an unknown rule": {"rule": "magic"},
    "no frames": {"rule": "encoding", "length": 0},
    "no offset": {"rule": "encoding", "offset": math.nan},
    "an endless stride": {"rule": "encoding", "stride": math.inf},
    "no stride": {"rule": "encoding", "stride": 0.0},
    "time running backwards": {"rule": "encoding", "stride": -1.0},
    "no base": {"rule": "encoding", "base": 0.0},
    "a base that is none": {"rule": "encoding", "base": math.nan},
    "a base that overflows": {"rule": "encoding", "base": 1e300, "levels": 1024},
    "negative levels": {"rule": "encoding", "levels": -1},
    "too many levels": {"rule": "encoding", "levels": 1025},
    "no window": {"rule": "window", "length": 5, "window": 0, "data": grid()},
    "too wide a window": {"rule": "window", "length": 5, "window": 65, "data": grid()},
    "data with an encoding": {"rule": "encoding", "length": 5, "data": grid()},
    "a grid without data": {"rule": "lerp", "length": 5},
    "fewer slices than promised": {"rule": "row", "length": 6, "data": grid()},
    "slices without a shape": {"rule": "row", "length": 5, "data": grid(slice_shape=())},
}


@pytest.mark.parametrize("name", BAD)
def test_a_time_tensor_refuses(name: str) -> None:
    with pytest.raises(FormatError):
        TimeTensor(**{"length": 12, **BAD[name]})
