"""Segments whose fields lie, and limits: nothing is allocated before it has been compared with what is known."""

from __future__ import annotations

import math
import struct
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import FOLDER, NAMES

from inr_runtime import open_video
from inr_runtime.chunks import Header
from inr_runtime.entropy import encode_tensors
from inr_runtime.errors import ChecksumError, LimitError, NvbError
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph, Node, Port, renumber
from inr_runtime.info import VideoInfo
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.segment import decode_segment, encode_segment
from inr_runtime.wire import Writer


def graph_of(*inputs: tuple[int, ...]) -> CanonicalGraph:
    """A picture and as many more inputs as wanted, one weight; what it computes does not matter."""
    ports = [Port("x", (1, 3, 2, 2)), *(Port(f"x{i}", shape) for i, shape in enumerate(inputs))]
    return renumber(ports, [Port("w", (3, 1, 1))], {}, [Node("Mul", ("x", "w"), "e")], "e")


def header_of(graph: CanonicalGraph) -> Header:
    return Header(VideoInfo(2, 2, 9), "m", bytes(16), (graph,))


def time_head(
    shape: Sequence[int],
    *,
    rule: int = 1,
    length: int = 4,
    offset: float = 0.0,
    stride: float = 1.0,
    levels: int = 0,
    window: int = 1,
    axis: int = 255,
) -> bytes:
    writer = Writer().raw(bytes([rule])).varint(length).float64(offset).float64(stride).float64(1.25)
    writer.varint(levels).varint(window).varint(len(shape))
    for n in shape:
        writer.varint(n)
    return writer.raw(bytes([axis])).bytes_()


GOOD_HEAD = time_head((3, 2, 2))


def payload(
    graph: CanonicalGraph,
    *heads: bytes,
    number: int = 0,
    frames: int = 9,
    thumbnail: tuple[int, int, int] = (0, 1, 1),
    axis: int = 255,
    count: int | None = None,
    code: int = 0,
) -> bytes:
    """A segment whose integers are all 0 but its scale codes; what its time tensors say stands in `heads`."""
    frame, width, height = thumbnail
    writer = Writer().varint(number).varint(0).varint(frames).raw(bytes(16)).raw(graph.digest).raw(bytes(16))
    writer.varint(frame).raw(bytes([width, height])).raw(bytes(width * height * 3)).raw(bytes([axis]))
    writer.varint(len(heads) if count is None else count).raw(b"".join(heads))
    zeros = [np.zeros(3, np.int32), np.full(1, code, np.int32), *[np.zeros(1, np.int32)] * len(heads)]
    writer.blob(encode_tensors(zeros, [None] * len(zeros)).data)
    for _ in heads:
        writer.blob(encode_tensors([np.zeros(1, np.int32)], [None]).data)
    return writer.bytes_()


def test_the_segment_that_the_others_are_bent_from_is_read_up_to_its_hash() -> None:
    graph = graph_of()
    with pytest.raises(ChecksumError, match="not those that were encoded"):
        decode_segment(payload(graph, GOOD_HEAD), header_of(graph), DEFAULT_LIMITS)


BENT = {
    "an unknown rule": (payload(graph_of(), time_head((3, 2, 2), rule=7)), "unknown sampling rule 7"),
    "no slices": (payload(graph_of(), time_head((3, 2, 2), length=0)), "length 0"),
    "endless slices": (payload(graph_of(), time_head((3, 2, 2), length=1 << 60)), "above 1000000"),
    "slices without a shape": (payload(graph_of(), time_head(())), r"takes \(1, 3, 2, 2\), sampling gives \(1,\)"),
    "slices of another shape": (payload(graph_of(), time_head((3, 4))), r"sampling gives \(1, 3, 4\)"),
    "empty slices": (payload(graph_of(), time_head((3, 0, 2))), "sampling gives"),
    "slices of no size but a huge shape": (
        payload(graph_of(), time_head((0, 100_000_000, 100_000_000, 100_000_000))),
        "sampling gives",
    ),
    "slices of rank 6": (payload(graph_of(), time_head((1,) * 6)), "6 is above 5"),
    "a window that widens": (payload(graph_of(), time_head((3, 2, 2), rule=3, window=2)), r"gives \(1, 6, 2, 2\)"),
    "no window": (payload(graph_of(), time_head((3, 2, 2), rule=3, window=0)), "sampling gives"),
    "too wide a window": (payload(graph_of(), time_head((3, 2, 2), rule=3, window=65)), "65 is above 64"),
    "too many levels": (payload(graph_of(), time_head((3, 2, 2), levels=2000)), "2000 is above 1024"),
    "an encoding of another shape": (payload(graph_of(), time_head((), rule=0, levels=4)), "sampling gives"),
    "an offset without end": (payload(graph_of(), time_head((3, 2, 2), offset=-math.inf)), "finite"),
    "no stride": (payload(graph_of(), time_head((3, 2, 2), stride=0.0)), "out of range"),
    "a stride that is none": (payload(graph_of(), time_head((3, 2, 2), stride=math.nan)), "finite"),
    "an offset that is none": (payload(graph_of(), time_head((3, 2, 2), offset=math.nan)), "finite"),
    "an endless stride": (payload(graph_of(), time_head((3, 2, 2), stride=math.inf)), "finite"),
    "time running backwards": (payload(graph_of(), time_head((3, 2, 2), stride=-1.0)), "out of range"),
    "an axis outside": (payload(graph_of(), time_head((3, 2, 2), axis=4)), "axis 4 does not fit"),
    "a weight's axis outside": (payload(graph_of(), GOOD_HEAD, axis=3), "axis 3 does not fit"),
    "a scale of nothing": (payload(graph_of(), GOOD_HEAD, code=-64 * 40 - 1), "scale codes must lie"),
    "a scale without end": (payload(graph_of(), GOOD_HEAD, code=64 * 24 + 1), "scale codes must lie"),
    "a scale that is no number": (payload(graph_of(), GOOD_HEAD, code=2**31 - 1), "scale codes must lie"),
    "a scale turned around": (payload(graph_of(), GOOD_HEAD, code=-(2**31)), "scale codes must lie"),
    "an unknown graph": (payload(graph_of(), GOOD_HEAD, number=1), "1 is above 0"),
    "no frames": (payload(graph_of(), GOOD_HEAD, frames=0), "thumbnail is outside"),
    "a thumbnail of a later frame": (payload(graph_of(), GOOD_HEAD, thumbnail=(9, 1, 1)), "thumbnail is outside"),
    "a thumbnail of no size": (payload(graph_of(), GOOD_HEAD, thumbnail=(0, 0, 1)), "thumbnail"),
    "a thumbnail that is large": (payload(graph_of(), GOOD_HEAD, thumbnail=(0, 65, 1)), "thumbnail"),
    "a time tensor missing": (payload(graph_of()), "expected 1 time tensors"),
    "a time tensor too many": (payload(graph_of(), GOOD_HEAD, GOOD_HEAD), "expected 1 time tensors"),
    "something behind its end": (payload(graph_of(), GOOD_HEAD) + b"!", "1 bytes too many"),
    "nothing": (b"", "expected 1 more bytes"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_segment_is_refused_for(name: str) -> None:
    data, reason = BENT[name]
    tracemalloc.start()
    try:
        with pytest.raises(NvbError, match=reason) as caught:
            decode_segment(data, header_of(graph_of()), DEFAULT_LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()
    finally:
        tracemalloc.stop()


def test_a_few_bytes_cannot_ask_for_many_numbers() -> None:
    """Constants cost nothing in the stream, so only the limit stands between 100 bytes and 40 GB."""
    wide = graph_of((1, 100_000))
    heads = (GOOD_HEAD, time_head((100_000,), length=100_000))
    with pytest.raises(LimitError, match=r"numbers in a segment.*symbols"):
        decode_segment(payload(wide, *heads), header_of(wide), DEFAULT_LIMITS)


def test_numbers_are_counted_over_all_of_a_segments_tensors() -> None:
    """Each is within the limit, together they are not."""
    many = graph_of(*[(1, 1000)] * 50)
    heads = (GOOD_HEAD, *[time_head((1000,), length=5000)] * 50)
    with pytest.raises(LimitError, match="250000051 is above the limit of 200000000"):
        decode_segment(payload(many, *heads), header_of(many), DEFAULT_LIMITS)


def test_integers_are_those_that_were_encoded_or_refused() -> None:
    """The hash covers weights, time tensors and all their scales."""
    with NvbReader(FOLDER / NAMES[1]) as reader:
        header, segment = reader.header, reader.segment(1)
    good = encode_segment(segment, header)
    stored = good.index(header.graphs[0].digest) + 16
    for i, tensor in enumerate(segment.weights):
        bent = replace(tensor, scale_codes=tensor.scale_codes + 1)
        weights = (*segment.weights[:i], bent, *segment.weights[i + 1 :])
        other = bytearray(encode_segment(replace(segment, weights=weights), header))
        other[stored : stored + 16] = good[stored : stored + 16]
        with pytest.raises(ChecksumError, match="integers"):
            decode_segment(bytes(other), header, DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(pixels=24 * 16 - 1), "pixels"),
        (Limits(frames=24), "frames"),
        (Limits(segments=1), "segments"),
        (Limits(chunks=2), "chunks"),
        (Limits(chunk_bytes=100), "chunk_bytes"),
        (Limits(name_bytes=10), "name_bytes"),
        (Limits(graphs=0), "graphs"),
        (Limits(graph_bytes=100), "graph_bytes"),
        (Limits(graph_nodes=5), "graph_nodes"),
        (Limits(tensors=4), "tensors"),
        (Limits(macs_per_frame=10), "macs_per_frame"),
        (Limits(activation_bytes=100), "activation_bytes"),
        (Limits(symbols=1000), "symbols"),
    ],
)
def test_a_limit_that_is_passed_is_named_with_the_file(limits: Limits, name: str) -> None:
    with pytest.raises(LimitError, match=rf"{NAMES[1]}: .*\({name}\), .*; from Python, Limits\({name}=\.\.\.\) does$"):
        open_video(FOLDER / NAMES[1], limits=limits)


def test_notes_have_their_limit(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match=r"meta: .*\(text_bytes\)"):
        NvbReader(FOLDER / NAMES[0], Limits(text_bytes=10))


def test_a_chunk_that_claims_four_gigabytes_is_not_read(tmp_path: Path) -> None:
    data = bytearray((FOLDER / NAMES[0]).read_bytes())
    struct.pack_into("<I", data, 16, 0xFFFFFFFF)
    path = tmp_path / "large.nvb"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(NvbError, match="more than the file has"):
            NvbReader(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
