"""Mutations that only a file's author could make: compressed parts, graphs, integers, all signed again."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
from tests.fuzz.corpus import edges
from tests.fuzz.graphs import edited, grown
from tests.fuzz.judge import LIMITS
from tests.fuzz.seeds import Seed, any_seed, signed, signed_graph
from tests.surgery import Chunk

from inr_runtime.chunks import Header
from inr_runtime.graph import Port
from inr_runtime.info import VideoInfo
from inr_runtime.sample import TimeTensor, input_shape
from inr_runtime.segment import SLICES_PER_BLOB, Segment
from inr_runtime.tensors import SCALE_CODE_RANGE, QuantTensor
from inr_runtime.wire import Writer, deflate, inflate

Altered = tuple[Seed, bytes]
EXTREMES = (-(2**31), -32768, -128, -1, 0, 1, 127, 128, 32767, 2**31 - 1)


def repack(rng: random.Random) -> Altered:
    """What is compressed, altered inside or with a false size; for graphs under the old digest."""
    source = any_seed(rng)
    chunks = source.body
    at = rng.choice([i for i, chunk in enumerate(chunks) if chunk.tag in (b"TIME", b"GRPH", b"meta")])
    head, packed = _compressed(chunks[at])
    data = bytearray(inflate(packed, "chunk_bytes", LIMITS, "fuzz"))
    for _ in range(rng.choice([0, 1, 2])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        data += bytes(rng.choice([1, 1000, 5_000_000]))
    new = deflate(bytes(data))
    if rng.random() < 0.3:
        new = Writer().varint(rng.choice([0, 1, len(data) + 1, 1 << 30, 1 << 60])).bytes_() + new[2:]
    payload = head + (Writer().blob(new).bytes_() if chunks[at].tag == b"GRPH" else new)
    chunks[at] = Chunk(chunks[at].tag, payload)
    return source, source.indexed(chunks)


def _compressed(chunk: Chunk) -> tuple[bytes, bytes]:
    """The payload before its compressed part, and that part."""
    stream = chunk.payload.index(b"\x78\xda")
    size = stream - (2 if chunk.payload[stream - 2] & 0x80 else 1)
    if chunk.tag != b"GRPH":
        return chunk.payload[:size], chunk.payload[size:]
    return chunk.payload[:19], chunk.payload[size:]


def resign_graphs(rng: random.Random) -> Altered:
    """The graph edited, under its own new digest here and in every segment; what it is fed stays as it was."""
    source = any_seed(rng)
    graph = source.header.graphs[0]
    return source, source.indexed(signed_graph(source.body, graph.digest, edited(graph, rng)))


def grow_graphs(rng: random.Random) -> Altered:
    """A new graph of the dialect with new weights and inputs, all signed."""
    source = any_seed(rng)
    info = source.header.info
    graph = None
    while graph is None:
        try:
            graph = grown(rng, info.width, info.height, LIMITS)
        except ValueError:  # no RGB picture came of it
            continue
    lengths = source.lengths
    share = rng.choice([1.0, 0.9, 0.5])
    some = {edge: _range(rng) for edge in edges(graph) if rng.random() < share}
    ranges = {0: some} if rng.random() < 0.6 else {}
    header = replace(source.header, graphs=(graph,), ranges=ranges)
    segments = []
    for first, length in zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True):
        weights = tuple(_weight(rng, port) for port in graph.weights)
        times = tuple(_time(rng, port, length) for port in graph.inputs)
        segments.append(Segment(0, first, length, weights, times, _thumbnail(rng, info)))
    return source, signed(header, tuple(segments))


def _range(rng: random.Random) -> tuple[float, float]:
    return rng.choice([(-1.0, 1.0), (-1.0, 1.0), (0.0, 3.0), (0.0, 0.0), (-2.0, -1.0), (-1e-38, 1e-38), (-1e29, 1e29)])


def _weight(rng: random.Random, port: Port) -> QuantTensor:
    """Small numbers with sane scales; now and then extremes."""
    wild = rng.random() < 0.15
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    values = numbers.choice(EXTREMES, port.shape) if wild else numbers.integers(-127, 128, port.shape)
    axis = rng.choice([None, 0, 0, 0, len(port.shape) - 1])
    count = 1 if axis is None else port.shape[axis]
    codes = numbers.choice([*SCALE_CODE_RANGE, 0], count) if wild else numbers.integers(-600, -300, count)
    return QuantTensor(values.astype(np.int32), codes.astype(np.int32), axis)


def _time(rng: random.Random, port: Port, length: int) -> TimeTensor:
    """A row, a blend or a window of that shape; strange offsets and strides now and then."""
    rule = rng.choice(["row", "lerp", "window"])
    window = rng.choice([d for d in (1, 2, 3) if port.shape[1] % d == 0]) if rule == "window" else 1
    offset, stride = rng.choice([(0.0, 1.0), (0.5, 2.0), (-1e308, 1e-300), (1e300, 1e300)])
    slices = rng.choice([1, length, SLICES_PER_BLOB + 1])
    slice_shape = (port.shape[1] // window, *port.shape[2:])
    assert input_shape(rule, 0, window, slice_shape) == port.shape
    data = _weight(rng, Port("", (slices, *slice_shape)))
    return TimeTensor(rule, slices, offset, stride, window=window, data=data)


def _thumbnail(rng: random.Random, info: VideoInfo) -> np.ndarray:
    """Grey of the right shape, or another: most pictures are refused for it, after the engine has run."""
    scale = 8 / max(info.width, info.height)
    shape = (max(1, round(info.height * scale)), max(1, round(info.width * scale)), 3)
    return np.full(rng.choice([shape, shape, shape, (1, 1, 3)]), rng.choice([0, 128, 255]), np.uint8)


def resign_segments(rng: random.Random) -> Altered:
    """Integers, scales, time and ranges altered, mostly little, with every hash right."""
    source = any_seed(rng)
    header, segments = source.header, list(source.segments)
    at = rng.randrange(len(segments))
    for _ in range(rng.choice([1, 1, 2])):
        segments[at] = rng.choice([_other_weights, _other_scales, _other_times, _other_frame])(segments[at], rng)
    if header.ranges and rng.random() < 0.4:
        ranges = {edge: _range(rng) if rng.random() < 0.3 else old for edge, old in header.ranges[0].items()}
        for edge in rng.sample(sorted(ranges), rng.choice([0, 0, 1, len(ranges) // 2])):
            del ranges[edge]
        header = replace(header, ranges={0: ranges})
    return source, signed(header, tuple(segments))


def _other_weights(segment: Segment, rng: random.Random) -> Segment:
    at = rng.randrange(len(segment.weights))
    values = segment.weights[at].values.copy()
    for _ in range(rng.choice([1, 3, 20])):
        values.ravel()[rng.randrange(values.size)] = rng.choice(EXTREMES)
    return _with_weight(segment, at, replace(segment.weights[at], values=values))


def _other_scales(segment: Segment, rng: random.Random) -> Segment:
    at = rng.randrange(len(segment.weights))
    weight = segment.weights[at]
    axis = rng.choice([weight.axis, None, *range(weight.values.ndim)])
    count = 1 if axis is None else weight.shape[axis]
    codes = np.full(count, rng.choice([*SCALE_CODE_RANGE, 0, -300, -310]), np.int32)
    return _with_weight(segment, at, QuantTensor(weight.values, codes, axis))


def _with_weight(segment: Segment, at: int, weight: QuantTensor) -> Segment:
    return replace(segment, weights=(*segment.weights[:at], weight, *segment.weights[at + 1 :]))


def _other_times(segment: Segment, rng: random.Random) -> Segment:
    at = rng.randrange(len(segment.time_tensors))
    time = segment.time_tensors[at]
    changes = [{"offset": rng.choice([-1e308, 0.5, 1e308])}, {"stride": rng.choice([1e-300, 0.1, 1e300])}]
    if time.data is None:
        changes += [{"length": rng.choice([1, 10_000])}, {"base": rng.choice([1e-300, 1.0, 1.3])}]
    time = replace(time, **rng.choice(changes))
    return replace(segment, time_tensors=(*segment.time_tensors[:at], time, *segment.time_tensors[at + 1 :]))


def _other_frame(segment: Segment, rng: random.Random) -> Segment:
    thumbnail = np.clip(segment.thumbnail.astype(int) + rng.choice([-200, -20, 3, 20]), 0, 255).astype(np.uint8)
    return replace(segment, thumbnail=thumbnail, thumbnail_frame=rng.randrange(segment.frame_count))


def resign_headers(rng: random.Random) -> Altered:
    """Other facts about the video, all signed."""
    source = any_seed(rng)
    info = source.header.info
    half = Fraction(1, (1 << 32))
    changes = rng.choice(
        [
            {"width": rng.choice([1, info.width + 1, 1 << 40])},
            {"frame_count": rng.choice([1, info.frame_count + 1, 1 << 50]), "pts": None},
            {"fps": rng.choice([half, 1 / half, Fraction((1 << 32) - 1, 1 << 31)])},
            {"pts": tuple(range(0, info.frame_count << 39, 1 << 39)), "time_base": 1 / half},
            {"pts": tuple(range(-(1 << 60), info.frame_count - (1 << 60))), "time_base": half},
        ]
    )
    texts = {"model": rng.choice(["", "m" * 300, "\x1b[2J", "波"])}
    header: Header = replace(source.header, info=replace(info, **changes), **rng.choice([{}, texts]))
    return source, signed(header, source.segments)


KINDS = {
    "compressed parts changed, new checksums": repack,
    "graphs edited, signed again": resign_graphs,
    "graphs made up, signed": grow_graphs,
    "segments changed, signed again": resign_segments,
    "headers changed, signed again": resign_headers,
}
