"""What a .nvb file holds: its size, its network, and the bits of every tensor. Needs no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from inr_runtime.chunks import Header
from inr_runtime.format import NvbReader
from inr_runtime.int8plan import int8_mac_share, plan_int8
from inr_runtime.lower import TARGETS
from inr_runtime.segment import Segment, TensorCost, segment_cost
from inr_runtime.tiles import count_tiles


@dataclass(frozen=True)
class SegmentFacts:
    """One segment: its frames, the bytes of its chunk, its graph's number, and the numbers that it transmits."""

    first_frame: int
    frames: int
    bytes: int
    graph: int
    parameters: int


@dataclass(frozen=True)
class Totals:
    """parameters: numbers transmitted by all segments, scales left out. gmac_per_frame: 10^9 multiply-accumulates."""

    parameters: int
    gmac_per_frame: float


def totals(reader: NvbReader, size: tuple[int, int] | None = None) -> Totals:
    """Size of the network, from the file's segments. Raises `NvbError` where one is damaged.

    size: width and height in which frames are drawn; None is the file's own.
    """
    return _sum_up(reader.header, [_facts(reader, i, reader.segment(i)) for i in range(len(reader.index))], size)


def parameters_of(segment: Segment) -> int:
    """Numbers that one segment transmits: weights and time-indexed tensors, without their scales."""
    datas = [t.data for t in segment.time_tensors if t.data is not None]
    return sum(prod(tensor.shape) for tensor in (*segment.weights, *datas))


def targets_of(header: Header) -> list[str]:
    """Names of the targets that the file can be played with; int8 needs activation ranges in the file."""
    ranged = all(i in header.ranges for i in range(len(header.graphs)))
    return [name for name, target in TARGETS.items() if target.precision != "int8" or ranged]


def describe(reader: NvbReader) -> dict[str, Any]:
    """The facts that `inr-play --info --json` prints; figures carry their units in their keys.

    Every segment is decoded and encoded again for the bits of its tensors. Raises `NvbError` where one is damaged.
    """
    header, info = reader.header, reader.header.info
    segments, tensors = [], []
    for number in range(len(reader.index)):
        segment = reader.segment(number)
        segments.append(_facts(reader, number, segment))
        tensors += [_tensor(cost, number) for cost in segment_cost(segment, header).tensors]
    sums = _sum_up(header, segments)
    sound = {"channels": info.width, "sample_rate": float(info.fps), "samples": info.frame_count}
    return {
        "file": str(reader.path),
        "media": header.media,
        **(sound if header.media == "audio" else {}),
        "width": info.width,
        "height": info.height,
        "frames": info.frame_count,
        "fps": float(info.fps),
        "variable_rate": info.pts is not None,
        "duration_s": info.duration,
        "matrix": info.matrix_used,
        "bytes": reader.size,
        "video_bytes": reader.video_bytes,
        "bits_per_pixel": reader.bits_per_pixel,
        "model": header.model,
        "parameters": sums.parameters,
        "gmac_per_frame": sums.gmac_per_frame,
        "int8_mac_share": _int8_share(header),
        "operators": sum(len(graph.nodes) for graph in header.graphs),
        "targets": targets_of(header),
        "segments": [asdict(segment) for segment in segments],
        "tensors": tensors,
        "meta": dict(header.meta),
    }


def _int8_share(header: Header) -> float:
    """Share of the multiply-accumulates of all graphs that int8 targets run on integers; 0 for a file without int8."""
    graphs = [(g, plan_int8(g, header.ranges[i])) for i, g in enumerate(header.graphs) if header.ranges.get(i)]
    macs = sum(int8_mac_share(graph, plan) * graph.macs for graph, plan in graphs)
    return macs / max(1, sum(graph.macs for graph in header.graphs))


def _facts(reader: NvbReader, number: int, segment: Segment) -> SegmentFacts:
    size, parameters = reader.index[number].length, parameters_of(segment)
    return SegmentFacts(segment.first_frame, segment.frame_count, size, segment.graph, parameters)


def _sum_up(header: Header, segments: Sequence[SegmentFacts], size: tuple[int, int] | None = None) -> Totals:
    macs = sum(_macs(header, s, size or (header.info.width, header.info.height)) for s in segments)
    return Totals(sum(s.parameters for s in segments), macs / header.info.frame_count / 1e9)


def _macs(header: Header, segment: SegmentFacts, size: tuple[int, int]) -> int:
    """Multiply-accumulates of all frames of a segment, tile by tile where its graph draws those."""
    graph = header.graphs[segment.graph]
    if graph.role == "frame":
        return graph.macs * segment.frames
    if header.media == "audio":
        return graph.macs * count_tiles((segment.frames, 1), graph.size)
    return graph.macs * segment.frames * count_tiles(size, graph.size)


def _tensor(cost: TensorCost, segment: int) -> dict[str, Any]:
    return {
        "name": cost.name,
        "segment": segment,
        "shape": list(cost.shape),
        "coder": cost.coder,
        "zeros": cost.zeros,
        "bits": cost.bits,
        "scale_bits": cost.scale_bits,
        "table_bits": cost.table_bits,
        "bits_per_symbol": cost.bits / max(prod(cost.shape), 1),
    }
