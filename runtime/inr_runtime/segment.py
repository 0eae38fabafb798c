"""The SEGM chunk: the weights of one stretch of video; laid out in the docstring of `format.py`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inr_runtime.chunks import Header
from inr_runtime.entropy import EncodedTensors, decode_tensors, encode_tensors
from inr_runtime.errors import ChecksumError, FormatError
from inr_runtime.graph import CanonicalGraph, Port
from inr_runtime.limits import Limits
from inr_runtime.sample import AXES, RULES, WITHOUT_DATA, TimeTensor, input_shape
from inr_runtime.tensors import IntArray, QuantTensor
from inr_runtime.wire import Reader, Writer

SLICES_PER_BLOB = 16
THUMBNAIL_SIDE = 8
PRINT_PIXELS = 64
_NO_AXIS = 255


@dataclass(frozen=True, eq=False)
class Segment:
    """One stretch of video.

    graph: its number in the header. weights: one per weight of that graph. time_tensors: one per input.
    thumbnail: uint8 (h, w, 3), frame `thumbnail_frame` (counted from the segment's start) averaged over boxes; of
    sound, the samples from there on (`sound_print`).
    """

    graph: int
    first_frame: int
    frame_count: int
    weights: tuple[QuantTensor, ...]
    time_tensors: tuple[TimeTensor, ...]
    thumbnail: NDArray[np.uint8]
    thumbnail_frame: int = 0


@dataclass(frozen=True)
class TensorCost:
    """What one tensor costs in the file.

    name: of the graph's weight or input. bits: ideal, all that follows included. scale_bits: of its scales. table_bits:
    of the description of its model. zeros: share of its integers. coder: of its integers, constant, gaussian or
    histogram.
    """

    name: str
    shape: tuple[int, ...]
    bits: float
    scale_bits: float
    table_bits: float
    zeros: float
    coder: str


@dataclass(frozen=True)
class SegmentCost:
    """tensors: one per weight, then one per time tensor with data. coded_bytes: length of the entropy-coded streams."""

    tensors: tuple[TensorCost, ...]
    coded_bytes: int

    @property
    def ideal_bytes(self) -> float:
        """The entropy of all integers under their models, the models included."""
        return sum(t.bits for t in self.tensors) / 8


def make_thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 3) averaged over boxes so that its longer side has `THUMBNAIL_SIDE` pixels; uint8."""
    height, width = frame.shape[:2]
    scale = THUMBNAIL_SIDE / max(height, width)
    rows = _edges(height, max(1, min(height, round(height * scale))))
    columns = _edges(width, max(1, min(width, round(width * scale))))
    sums = np.add.reduceat(np.add.reduceat(frame.astype(np.uint64), rows[:-1], axis=0), columns[:-1], axis=1)
    area = np.diff(rows)[:, None, None] * np.diff(columns)[None, :, None]
    return np.asarray((sums + area // 2) // area, np.uint8)


def sound_print(sound: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The thumbnail of sound (n, channels), at least one sample: its first channel in 8 bits, uint8 (1, w, 3).

    (s + 1) * 127.5, rounded, of at most 3 * `PRINT_PIXELS` samples in a row; repeated at its end to a multiple of 3.
    """
    codes = np.rint((np.clip(sound[: 3 * PRINT_PIXELS, 0], -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.pad(codes, (0, -len(codes) % 3), mode="edge").reshape(1, -1, 3)


def _edges(size: int, parts: int) -> NDArray[np.int64]:
    return np.arange(parts + 1) * size // parts


def encode_segment(segment: Segment, header: Header) -> bytes:
    """SEGM."""
    graph = header.graphs[segment.graph]
    w = Writer().varint(segment.graph).varint(segment.first_frame).varint(segment.frame_count)
    w.raw(header.file_id).raw(graph.digest).raw(_integer_hash(segment))
    height, width = segment.thumbnail.shape[:2]
    w.varint(segment.thumbnail_frame).raw(bytes([width, height])).raw(segment.thumbnail.tobytes())
    for tensor in segment.weights:
        w.raw(_axis_byte(tensor.axis))
    w.varint(len(segment.time_tensors))
    for time_tensor in segment.time_tensors:
        _encode_time_tensor(w, time_tensor)
    arrays, axes = _stream_layout(segment)
    w.blob(encode_tensors(arrays, axes).data)
    for data in (t.data for t in segment.time_tensors if t.data is not None):
        for blob in _encode_slices(data):
            w.blob(blob.data)
    return w.bytes_()


def decode_segment(payload: bytes, header: Header, limits: Limits) -> Segment:
    """SEGM; the integers are exactly the encoder's or an `NvbError` is raised."""
    r = Reader(payload, "SEGM")
    number, first, count = r.varint(len(header.graphs) - 1), r.varint(), r.varint(_most_frames(header, limits))
    graph = header.graphs[number]
    if r.raw(16) != header.file_id or r.raw(16) != graph.digest:
        raise FormatError("the segment belongs to another file")
    integer_hash = r.raw(16)
    thumbnail_frame, thumbnail = _decode_thumbnail(r, count)
    axes = [_decode_axis(r.raw(1)[0], len(w.shape)) for w in graph.weights]
    if r.varint() != len(graph.inputs):
        raise FormatError(f"expected {len(graph.inputs)} time tensors")
    times = [_decode_time_tensor(r, port, limits) for port in graph.inputs]
    _check_axes(graph, times)
    shapes = [w.shape for w in graph.weights]
    numbers = sum(math.prod(shape) for shape in (*shapes, *(t.shape for t in times if t.shape)))
    limits.check("symbols", numbers, "numbers in a segment")
    weights, codes = _decode_stream(r, shapes, axes, times, limits)
    time_tensors = tuple(_decode_slices(r, t, c, limits) for t, c in zip(times, codes, strict=True))
    r.end()
    segment = Segment(number, first, count, tuple(weights), time_tensors, thumbnail, thumbnail_frame)
    if _integer_hash(segment) != integer_hash:
        raise ChecksumError("decoded integers are not those that were encoded")
    return segment


def _most_frames(header: Header, limits: Limits) -> int:
    return limits.samples if header.media == "audio" else limits.frames


def _check_axes(graph: CanonicalGraph, times: Sequence[_TimeHead]) -> None:
    """A tile's axes are as long as the tile; frames have none, and sound only that of its samples."""
    extents = dict(zip(AXES, graph.size, strict=True))
    for head in times:
        if head.rule in AXES and (graph.role != "tile" or head.length != extents[head.rule]):
            raise FormatError(f"an axis {head.rule} of {head.length} does not fit a {graph.role} of {graph.size}")
        if graph.result == "pcm_f32" and head.rule != "x":
            raise FormatError(f"sound is sampled along x, not by the rule {head.rule!r}")


def segment_cost(segment: Segment, header: Header) -> SegmentCost:
    """What each weight and each time tensor costs, by encoding them again."""
    graph = header.graphs[segment.graph]
    encoded = encode_tensors(*_stream_layout(segment))
    with_data = [(p, t.data) for p, t in zip(graph.inputs, segment.time_tensors, strict=True) if t.data is not None]
    count, size = len(segment.weights), len(encoded.data)
    costs = []
    for i, (port, tensor) in enumerate(zip(graph.weights, segment.weights, strict=True)):
        part = (encoded.bits[i], encoded.table_bits[i], encoded.models[i])
        costs.append(_cost(port, tensor, [part], encoded.bits[count + i]))
    for i, (port, data) in enumerate(with_data):
        blobs = _encode_slices(data)
        size += sum(len(blob.data) for blob in blobs)
        parts = [(blob.bits[0], blob.table_bits[0], blob.models[0]) for blob in blobs]
        costs.append(_cost(port, data, parts, encoded.bits[2 * count + i]))
    return SegmentCost(tuple(costs), size)


def _encode_slices(data: QuantTensor) -> list[EncodedTensors]:
    """The integers of a time tensor in blobs of a few slices."""
    starts = range(0, data.shape[0], SLICES_PER_BLOB)
    return [encode_tensors([data.values[s : s + SLICES_PER_BLOB]], [data.axis or None]) for s in starts]


def _cost(port: Port, tensor: QuantTensor, parts: Sequence[tuple[float, float, str]], scale_bits: float) -> TensorCost:
    """parts: bits, table bits and coder of each blob that holds some of the tensor's integers."""
    bits, table_bits = sum(p[0] for p in parts), sum(p[1] for p in parts)
    zeros = float(np.mean(tensor.values == 0)) if tensor.values.size else 0.0
    return TensorCost(port.name, tensor.shape, bits + scale_bits, scale_bits, table_bits, zeros, parts[0][2])


def _stream_layout(segment: Segment) -> tuple[list[IntArray], list[int | None]]:
    """What the one stream of a segment holds: weights, their scale codes, time tensors' scale codes."""
    datas = [t.data for t in segment.time_tensors if t.data is not None]
    codes = [t.scale_codes for t in (*segment.weights, *datas)]
    arrays = [*(t.values for t in segment.weights), *codes]
    return arrays, [*(t.axis for t in segment.weights), *([None] * len(codes))]


def _integer_hash(segment: Segment) -> bytes:
    digest = hashlib.sha256()
    datas = [t.data for t in segment.time_tensors if t.data is not None]
    for tensor in (*segment.weights, *datas):
        for array in (tensor.values, tensor.scale_codes):
            digest.update(np.ascontiguousarray(array, "<i4").tobytes())
    return digest.digest()[:16]


def _axis_byte(axis: int | None) -> bytes:
    return bytes([_NO_AXIS if axis is None else axis])


def _decode_axis(axis: int, rank: int) -> int | None:
    if axis == _NO_AXIS:
        return None
    if axis >= rank:
        raise FormatError(f"scale axis {axis} does not fit a tensor of rank {rank}")
    return axis


def _decode_thumbnail(r: Reader, frame_count: int) -> tuple[int, NDArray[np.uint8]]:
    frame = r.varint()
    width, height = r.raw(2)
    if frame >= frame_count or not (1 <= width <= 64 and 1 <= height <= 64):
        raise FormatError("the thumbnail is outside the segment or has an impossible size")
    return frame, np.frombuffer(r.raw(width * height * 3), np.uint8).reshape(height, width, 3)


def _encode_time_tensor(w: Writer, t: TimeTensor) -> None:
    w.raw(bytes([RULES.index(t.rule)])).varint(t.length)
    w.float64(t.offset).float64(t.stride).float64(t.base).varint(t.levels).varint(t.window)
    if t.data is not None:
        w.varint(t.data.values.ndim - 1)
        for n in t.data.shape[1:]:
            w.varint(n)
        w.raw(_axis_byte(t.data.axis))


@dataclass(frozen=True)
class _TimeHead:
    """A time tensor before its integers are decoded. shape: of its data, () without."""

    rule: str
    length: int
    offset: float
    stride: float
    base: float
    levels: int
    window: int
    shape: tuple[int, ...] = ()
    axis: int | None = None


def _decode_time_tensor(r: Reader, port: Port, limits: Limits) -> _TimeHead:
    rule, length = r.raw(1)[0], r.varint(limits.frames)
    if rule >= len(RULES) or length < 1:
        raise FormatError(f"unknown sampling rule {rule} or a time tensor of length {length}")
    head = _TimeHead(RULES[rule], length, r.float64(), r.float64(), r.float64(), r.varint(1024), r.varint(64))
    if head.rule not in WITHOUT_DATA:
        rank = r.varint(5)
        shape = (length, *(r.varint(limits.symbols) for _ in range(rank)))
        head = replace(head, shape=shape, axis=_decode_axis(r.raw(1)[0], len(shape)))
    # Before anything is allocated: the port's shape has been checked, the segment's own may be anything.
    given = input_shape(head.rule, head.levels, head.window, head.shape[1:], length)
    if given != port.shape:
        raise FormatError(f"input {port.name}: the graph takes {port.shape}, sampling gives {given}")
    return head


def _decode_stream(
    r: Reader,
    shapes: Sequence[tuple[int, ...]],
    axes: Sequence[int | None],
    times: Iterable[_TimeHead],
    limits: Limits,
) -> tuple[list[QuantTensor], list[IntArray]]:
    """The weights, and one array of scale codes per time tensor (empty without data)."""
    with_data = list(times)
    code_shapes = [(1 if a is None else s[a],) for s, a in zip(shapes, axes, strict=True)]
    time_shapes = [(() if t.axis is None else (t.shape[t.axis],)) or (1,) for t in with_data if t.shape]
    all_shapes = [*shapes, *code_shapes, *time_shapes]
    all_axes = [*axes, *([None] * (len(code_shapes) + len(time_shapes)))]
    arrays = decode_tensors(r.blob(r.left), all_shapes, all_axes, limits)
    n = len(shapes)
    weights = [QuantTensor(v, c, a) for v, c, a in zip(arrays[:n], arrays[n : 2 * n], axes, strict=True)]
    rest = iter(arrays[2 * n :])
    return weights, [next(rest) if t.shape else np.zeros(0, np.int32) for t in with_data]


def _decode_slices(r: Reader, head: _TimeHead, codes: IntArray, limits: Limits) -> TimeTensor:
    data = None
    if head.shape:
        parts = []
        for start in range(0, head.length, SLICES_PER_BLOB):
            shape = (min(SLICES_PER_BLOB, head.length - start), *head.shape[1:])
            parts += decode_tensors(r.blob(r.left), [shape], [head.axis or None], limits)
        data = QuantTensor(np.concatenate(parts), codes, head.axis)
    return TimeTensor(head.rule, head.length, head.offset, head.stride, head.base, head.levels, head.window, data)
