"""Header chunks: whatever a writer may write is read again, and whatever else stands there is refused as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from builders import tiny_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_runtime import chunks
from inr_runtime.chunks import MEDIA_KINDS, Header, IndexEntry
from inr_runtime.errors import NvbError
from inr_runtime.info import MATRICES, VideoInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.wire import MAX_FRACTION_PART, MAX_VARINT, Reader, Writer, deflate, inflate

QUICK = settings(deadline=None, max_examples=100)
SMALL = Limits(frames=1000, chunk_bytes=1 << 20)
GRAPH = tiny_graph()
HEADER = Header(VideoInfo(48, 32, 12), "m", bytes(16), (GRAPH,))
BYTE = st.integers(0, 255)
NUMBERS = st.integers(0, MAX_VARINT)
FRACTIONS = st.builds(Fraction, st.integers(1, MAX_FRACTION_PART), st.integers(1, MAX_FRACTION_PART))
NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60)
INFOS = st.builds(
    VideoInfo,
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    frame_count=st.integers(1, 10_000),
    fps=FRACTIONS,
    pixel_aspect=FRACTIONS,
    primaries=BYTE,
    transfer=BYTE,
    matrix_tag=BYTE,
    matrix_used=st.sampled_from(MATRICES),
    full_range=st.booleans(),
    bit_depth=st.integers(1, 16),
)


@QUICK
@given(INFOS, NAMES, st.binary(min_size=16, max_size=16), st.sampled_from(MEDIA_KINDS))
def test_facts_about_a_video_survive(info: VideoInfo, model: str, file_id: bytes, media: str) -> None:
    header = Header(info, model, file_id, media=media)
    assert chunks.decode_info(chunks.encode_info(header), DEFAULT_LIMITS) == header


@QUICK
@given(st.integers(-(1 << 60), 1 << 60), st.lists(st.integers(1, 1 << 40), max_size=60), FRACTIONS)
def test_times_survive(first: int, steps: list[int], time_base: Fraction) -> None:
    pts = [first]
    for step in steps:
        pts.append(pts[-1] + step)
    header = replace(HEADER, info=replace(HEADER.info, frame_count=len(pts)))
    info = chunks.decode_times(chunks.encode_times(pts, time_base), header, DEFAULT_LIMITS).info
    assert (info.pts, info.time_base) == (tuple(pts), time_base)
    seconds = [info.time_of(i) for i in range(len(pts))]
    assert seconds == sorted(seconds)


EDGES = st.sampled_from(["x0", *(node.output for node in GRAPH.nodes)])
BOUNDS = st.floats(-(2.0**96), 2.0**96, width=32)


@QUICK
@given(st.dictionaries(EDGES, st.tuples(BOUNDS, BOUNDS).map(lambda pair: (min(pair), max(pair)))))
def test_ranges_survive(ranges: dict[str, tuple[float, float]]) -> None:
    assert chunks.decode_ranges(chunks.encode_ranges(0, ranges), HEADER, DEFAULT_LIMITS).ranges == {0: ranges}


@QUICK
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.integers(1, MAX_VARINT), st.booleans(), NUMBERS), max_size=20))
def test_an_index_survives(entries: list[tuple[Any, ...]]) -> None:
    index = tuple(IndexEntry(*entry) for entry in entries)
    assert chunks.decode_index(chunks.encode_index(index, b"hash" * 4), DEFAULT_LIMITS) == (index, b"hash" * 4)


@QUICK
@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), max_size=60)))
def test_notes_survive(notes: dict[str, str]) -> None:
    assert chunks.decode_meta(chunks.encode_meta(notes), HEADER, DEFAULT_LIMITS).meta == notes


Decode = Callable[[bytes], object]
PAYLOADS: dict[str, tuple[Decode, bytes]] = {
    "INFO": (lambda data: chunks.decode_info(data, SMALL), chunks.encode_info(HEADER)),
    "TIME": (lambda data: chunks.decode_times(data, HEADER, SMALL), chunks.encode_times(range(12), Fraction(1, 24))),
    "GRPH": (lambda data: chunks.decode_graphs(data, HEADER, SMALL), chunks.encode_graphs((GRAPH,))),
    "ACTR": (
        lambda data: chunks.decode_ranges(data, HEADER, SMALL),
        chunks.encode_ranges(0, {"e0": (-1.0, 1.0), "x0": (0.0, 1.0)}),
    ),
    "INDX": (
        lambda data: chunks.decode_index(data, SMALL),
        chunks.encode_index([IndexEntry(12, 300, 0, 12)] * 3, bytes(16)),
    ),
    "meta": (lambda data: chunks.decode_meta(data, HEADER, SMALL), chunks.encode_meta({"made by": "tests"})),
}


@pytest.mark.parametrize("tag", PAYLOADS)
@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_chunk_or_refused(tag: str, data: bytes) -> None:
    decode, _ = PAYLOADS[tag]
    with contextlib.suppress(NvbError):
        decode(data)


@pytest.mark.parametrize("tag", PAYLOADS)
@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 10_000), replaced=st.integers(0, 4), new=st.binary(max_size=9))
def test_altered_payloads_are_a_chunk_or_refused(tag: str, place: int, replaced: int, new: bytes) -> None:
    decode, good = PAYLOADS[tag]
    decode(good)
    at = place % (len(good) + 1)
    with contextlib.suppress(NvbError):
        decode(good[:at] + new + good[at + replaced :])


@pytest.mark.parametrize("tag", ["TIME", "GRPH", "meta"])
@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=300))
def test_any_compressed_bytes_are_a_chunk_or_refused(tag: str, data: bytes) -> None:
    """Past compression, lengths and digests."""
    decode, _ = PAYLOADS[tag]
    before = {"TIME": b"\1\1", "GRPH": b"\1\0\0" + bytes(16), "meta": b""}[tag]
    packed = deflate(data)
    with contextlib.suppress(NvbError):
        decode(before + (Writer().blob(packed).bytes_() if tag == "GRPH" else packed))


READS: dict[str, Callable[[Reader], object]] = {
    "varint": lambda r: r.varint(),
    "signed": lambda r: r.signed(),
    "float64": lambda r: r.float64(),
    "fraction": lambda r: r.fraction(),
    "blob": lambda r: r.blob(100),
    "text": lambda r: r.text(100),
    "raw": lambda r: r.raw(3),
    "end": lambda r: r.end(),
}


@QUICK
@given(st.binary(max_size=60), st.lists(st.sampled_from(sorted(READS)), max_size=20))
def test_any_bytes_read_as_any_fields_end_well(data: bytes, names: list[str]) -> None:
    """And never is more read than there was."""
    reader = Reader(data, "test")
    with contextlib.suppress(NvbError):
        for name in names:
            READS[name](reader)
            assert 0 <= reader.left <= len(data)


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_compressed_data_or_refused(data: bytes) -> None:
    with contextlib.suppress(NvbError):
        assert len(inflate(data, "text_bytes", DEFAULT_LIMITS, "test")) <= DEFAULT_LIMITS.text_bytes
