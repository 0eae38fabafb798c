"""Segments, graphs and whole files by chance: what can be written is read again, what cannot is refused as ours."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import tiny_graph
from golden import FOLDER, NAMES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surgery import HEAD, Chunk, put_together, take_apart, with_index
from zoo import bytes_of, good

from inr_runtime.chunks import Header
from inr_runtime.errors import NvbError
from inr_runtime.format import MAGIC, VERSION, NvbReader
from inr_runtime.gaussian import ALPHABET, LIMITS, REACH, gaussian_bits
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.histogram import MAX_LOG, histogram_table
from inr_runtime.info import VideoInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.rans import TOTAL
from inr_runtime.sample import RULES, TimeTensor, encode
from inr_runtime.segment import Segment, decode_segment, encode_segment
from inr_runtime.tensor_models import GAUSSIAN, MAX_SHIFT, Layout, TensorModel, fit_tensor
from inr_runtime.tensors import SCALE_CODE_RANGE, QuantTensor

QUICK = settings(deadline=None, max_examples=60)
ON_DISK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = Limits(symbols=100_000, macs_per_frame=10**8, activation_bytes=1 << 24, chunk_bytes=1 << 20)
INT32 = np.iinfo(np.int32)
CODES = st.integers(*SCALE_CODE_RANGE)


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...]) -> QuantTensor:
    """Any integers, small ones mostly, with any scales along any axis."""
    largest = draw(st.sampled_from([0, 1, 127, 40_000, INT32.max]))
    values = draw(hnp.arrays(np.int32, shape, elements=st.integers(-largest, largest)))
    axis = draw(st.sampled_from([None, *range(len(shape))]))
    codes = draw(hnp.arrays(np.int32, (1 if axis is None else shape[axis],), elements=CODES))
    return QuantTensor(values, codes, axis)


FRAME_RULES = [rule for rule in RULES if rule not in ("x", "y", "t")]
"""The others are of networks that draw tiles."""


@st.composite
def segments(draw: st.DrawFn) -> tuple[Header, Segment]:
    """A segment of a graph with one weight and one input, which is sampled in any way."""
    rule, window = draw(st.sampled_from(FRAME_RULES)), draw(st.integers(1, 3))
    window = window if rule == "window" else 1
    count, length = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    slice_shape = (3, draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    numbers = {"offset": draw(st.floats(-1e9, 1e9)), "stride": draw(st.floats(1e-3, 1e3))}
    if rule == "encoding":
        time = TimeTensor(rule, length, **numbers, levels=draw(st.integers(0, 5)))
    else:
        time = TimeTensor(rule, length, **numbers, window=window, data=draw(tensors((length, *slice_shape))))
    graph = renumber(
        [Port("x", time.input_shape)],
        [Port("w", (3, time.input_shape[1], 1, 1))],
        {},
        [Node("Conv", ("x", "w"), "e")],
        "e",
    )
    thumbnail = draw(hnp.arrays(np.uint8, (draw(st.integers(1, 8)), draw(st.integers(1, 8)), 3)))
    weight = draw(tensors(graph.weights[0].shape))
    frame = draw(st.integers(0, count - 1))
    segment = Segment(0, draw(st.integers(0, 999)), count, (weight,), (time,), thumbnail, frame)
    return Header(VideoInfo(*graph.size, 1), "m", draw(st.binary(min_size=16, max_size=16)), (graph,)), segment


def same(left: QuantTensor | None, right: QuantTensor | None) -> bool:
    if left is None or right is None:
        return left is right
    arrays = zip((left.values, left.scale_codes), (right.values, right.scale_codes), strict=True)
    return left.axis == right.axis and all(np.array_equal(a, b) for a, b in arrays)


@QUICK
@given(segments())
def test_any_segment_survives(case: tuple[Header, Segment]) -> None:
    header, segment = case
    again = decode_segment(encode_segment(segment, header), header, DEFAULT_LIMITS)
    assert same(segment.weights[0], again.weights[0])
    before, after = segment.time_tensors[0], again.time_tensors[0]
    assert same(before.data, after.data)
    assert replace(before, rule="encoding", data=None) == replace(after, rule="encoding", data=None)
    assert np.array_equal(segment.thumbnail, again.thumbnail)
    for name in ("graph", "first_frame", "frame_count", "thumbnail_frame"):
        assert getattr(segment, name) == getattr(again, name)


@settings(QUICK, max_examples=150)
@given(segments(), st.data())
def test_altered_segments_are_the_same_integers_or_refused(case: tuple[Header, Segment], data: st.DataObject) -> None:
    """Beyond the checksum: the hash is over all integers, so none can change unnoticed."""
    header, segment = case
    payload = bytearray(encode_segment(segment, header))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        again = decode_segment(bytes(payload), header, SMALL)
    except NvbError:
        return
    assert np.array_equal(segment.weights[0].values, again.weights[0].values)
    assert np.array_equal(segment.weights[0].scale_codes, again.weights[0].scale_codes)


@settings(QUICK, max_examples=150)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_refused_as_a_segment(data: bytes, with_names: bool) -> None:
    graph = tiny_graph()
    header = Header(VideoInfo(48, 32, 12), "m", bytes(16), (graph,))
    names = b"\0\0\x0c" + header.file_id + graph.digest if with_names else b""
    with pytest.raises(NvbError):
        decode_segment(names + data, header, SMALL)


@settings(QUICK, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 10_000), st.integers(0, 4))
def test_any_bytes_are_a_graph_or_refused(data: bytes, place: int, replaced: int) -> None:
    original = bytes_of(good())
    at = place % (len(original) + 1)
    for candidate in (data, original + data, original[:at] + data[:4] + original[at + replaced :]):
        with contextlib.suppress(NvbError):
            graph = CanonicalGraph.from_bytes(candidate, SMALL)
            assert CanonicalGraph.from_bytes(graph.to_bytes(), SMALL).digest == graph.digest


@ON_DISK
@given(data=st.binary(max_size=300), version=st.sampled_from([VERSION, (0, 9), (0, 0), (65535, 65535)]))
def test_any_bytes_behind_the_magic_are_refused(data: bytes, version: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "any.nvb"
    path.write_bytes(MAGIC + struct.pack("<HH", *version) + data)
    with pytest.raises(NvbError, match=r"any\.nvb: "):
        NvbReader(path, SMALL)


GOLDEN_CHUNKS = [chunk for name in NAMES for chunk in take_apart((FOLDER / name).read_bytes())]
TAGS = st.sampled_from([b"INFO", b"TIME", b"GRPH", b"ACTR", b"meta", b"SEGM", b"audo", b"note", b"INDX", b"IEND"])
ANY_CHUNK = st.sampled_from(GOLDEN_CHUNKS) | st.builds(Chunk, TAGS, st.binary(max_size=40))


@ON_DISK
@given(chunks=st.lists(ANY_CHUNK, max_size=9), frames=st.lists(st.integers(1, 30), max_size=3), indexed=st.booleans())
def test_any_chunks_are_a_video_or_refused(
    chunks: list[Chunk], frames: list[int], indexed: bool, tmp_path: Path
) -> None:
    """Of two good files and of nowhere, in any order, under right checksums and a true index."""
    path = tmp_path / "any.nvb"
    path.write_bytes(with_index(chunks, None, frames) if indexed else put_together(chunks))
    with contextlib.suppress(NvbError), NvbReader(path, SMALL) as reader:
        for number in range(len(reader.index)):
            reader.segment(number)


@ON_DISK
@given(place=st.integers(HEAD, 100_000), new=st.integers(1, 255))
def test_any_byte_counts(place: int, new: int, tmp_path: Path) -> None:
    data = bytearray((FOLDER / NAMES[1]).read_bytes())
    data[max(HEAD, place % len(data))] ^= new
    path = tmp_path / "altered.nvb"
    path.write_bytes(data)
    with pytest.raises(NvbError, match=r"altered\.nvb: "):
        read_completely(path)


def read_completely(path: Path) -> None:
    with NvbReader(path) as reader:
        for number in range(len(reader.index)):
            reader.segment(number)


@QUICK
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=1, max_size=50), st.integers(-1000, 1000))
def test_a_value_is_the_sum_of_its_parts(values: list[int], centre: int) -> None:
    """Whatever the shift, as long as the symbols are not asked to fit."""
    array = np.array(values, np.int64)
    for shift in (0, 1, 7, MAX_SHIFT):
        model = TensorModel(Layout(array.shape, None), GAUSSIAN, centre, shift)
        high, low = model.split(array)
        assert ((low >= 0) & (low < 1 << shift)).all()
        assert np.array_equal(model.join(high, low), array)


@QUICK
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=1, max_size=60), st.booleans())
def test_every_fit_codes_its_own_values(values: list[int], allow_histogram: bool) -> None:
    array = np.array(values, np.int64)
    fit = fit_tensor(array, Layout(array.shape, 0), allow_histogram)
    assert np.isfinite(fit.bits)
    assert np.abs(fit.high).max(initial=0) <= REACH
    assert np.array_equal(fit.model.join(fit.high, fit.low), array)


@QUICK
@given(st.data())
def test_any_logs_are_a_table(data: st.DataObject) -> None:
    low = data.draw(st.integers(-REACH, REACH))
    logs = data.draw(hnp.arrays(np.int64, st.integers(1, REACH + 1 - low), elements=st.integers(0, MAX_LOG)))
    logs[0] = max(1, logs[0])
    counts = histogram_table(low, logs).counts[0]
    assert counts.sum() == TOTAL
    assert len(counts) == ALPHABET
    assert np.array_equal(np.flatnonzero(counts) - REACH, low + np.flatnonzero(logs))


@QUICK
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-REACH, REACH)))
def test_a_level_codes_what_is_within_its_reach_and_nothing_else(rows: np.ndarray) -> None:
    bits = gaussian_bits(rows)
    assert (bits >= 0).all()
    assert np.array_equal(np.isfinite(bits), np.abs(rows).max(axis=1)[:, None] <= LIMITS)


@QUICK
@given(st.floats(0, 1), st.floats(1e-300, 1.4), st.integers(0, 1024))
def test_an_encoding_stays_within_one(t: float, base: float, levels: int) -> None:
    encoded = encode(t, base, levels)
    assert encoded.shape == (1, max(1, 2 * levels), 1, 1)
    assert (np.abs(encoded) <= 1).all()
