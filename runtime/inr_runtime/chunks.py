"""Payloads of the header chunks, each writer beside its reader; laid out in the docstring of `format.py`."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from inr_runtime.errors import FormatError
from inr_runtime.graph import MAX_CHANNELS, RESULTS, ROLES, CanonicalGraph
from inr_runtime.info import MATRICES, MAX_DEPTH, VideoInfo
from inr_runtime.int8plan import Range
from inr_runtime.limits import Limits
from inr_runtime.tiles import count_tiles
from inr_runtime.units import activation_parameters
from inr_runtime.wire import Reader, Writer, deflate, inflate

MEDIA_KINDS = ("video", "image", "audio")
_MAX_TIME_BYTES = 9


@dataclass(frozen=True)
class Header:
    """All of a file but its segments.

    model: name of the representation, for people. file_id: 16 random bytes that segments repeat. ranges: per graph
    number, (low, high) by edge name; empty where the file was made without int8. meta: texts about the making.
    media: one of `MEDIA_KINDS`; of audio, the info's width is the number of channels, its frames are samples.
    """

    info: VideoInfo
    model: str
    file_id: bytes
    graphs: tuple[CanonicalGraph, ...] = ()
    ranges: Mapping[int, Mapping[str, Range]] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    media: str = "video"


@dataclass(frozen=True)
class IndexEntry:
    """Where a segment stands: offset and length of its chunk in bytes, and its frames."""

    offset: int
    length: int
    first_frame: int
    frame_count: int
    random_access: bool = True
    preroll: int = 0


def encode_info(header: Header) -> bytes:
    """INFO. Raises `ValueError` on a bit depth or a fraction that no reader takes."""
    info = header.info
    if not 1 <= info.bit_depth <= MAX_DEPTH:
        raise ValueError(f"a bit depth lies in 1 to {MAX_DEPTH}, not {info.bit_depth}")
    w = Writer().raw(bytes([MEDIA_KINDS.index(header.media)]))
    w.varint(info.width).varint(info.height).varint(info.frame_count).fraction(info.fps).fraction(info.pixel_aspect)
    tags = (info.primaries, info.transfer, info.matrix_tag, MATRICES.index(info.matrix_used))
    w.raw(bytes([*tags, info.full_range, info.bit_depth]))
    return w.text(header.model).raw(header.file_id).bytes_()


def decode_info(payload: bytes, limits: Limits) -> Header:
    """INFO; gives a header without graphs. Of audio, width is the channels, frame count the samples, fps their rate."""
    r = Reader(payload, "INFO")
    kind = r.raw(1)[0]
    width, height, count = r.varint(), r.varint(), r.varint()
    fps, aspect = r.fraction(), r.fraction()
    primaries, transfer, matrix_tag, matrix_used, full_range, depth = r.raw(6)
    model, file_id = _plain(r.text(r.left), "INFO", ""), r.raw(16)
    r.end()
    limits.check("name_bytes", len(model.encode()), "INFO: model name")
    if kind >= len(MEDIA_KINDS) or matrix_used >= len(MATRICES) or full_range > 1 or not 1 <= depth <= MAX_DEPTH:
        raise FormatError("INFO: a field holds a value that this version does not know")
    if min(width, height, count) < 1:
        raise FormatError(f"INFO: expected a positive size and frame count, found {width}x{height}, {count} frames")
    limits.check("pixels", width * height, "INFO")
    limits.check("samples" if MEDIA_KINDS[kind] == "audio" else "frames", count, "INFO")
    info = VideoInfo(width, height, count, fps, pixel_aspect=aspect, primaries=primaries, transfer=transfer)
    info = replace(info, matrix_tag=matrix_tag, matrix_used=MATRICES[matrix_used])
    info = replace(info, full_range=bool(full_range), bit_depth=depth)
    return Header(info, model, file_id, media=MEDIA_KINDS[kind])


def encode_times(pts: Sequence[int], time_base: Fraction) -> bytes:
    """TIME."""
    w = Writer().signed(pts[0])
    for before, after in itertools.pairwise(pts):
        w.varint(after - before)
    return Writer().fraction(time_base).raw(deflate(w.bytes_())).bytes_()


def _plain(text: str, what: str, also: str = "\n\t") -> str:
    """A text that may be printed: control characters would reach the terminal of whoever looks at the file."""
    if not all(c.isprintable() or c in also for c in text):
        raise FormatError(f"{what}: a text holds control characters")
    return text


def decode_times(payload: bytes, header: Header, limits: Limits) -> Header:
    """TIME; gives the header with pts."""
    if header.media == "audio":
        raise FormatError("TIME: samples of sound stand at a constant rate")
    r = Reader(payload, "TIME")
    time_base = r.fraction()
    packed, count = r.raw(r.left), header.info.frame_count
    size = Reader(packed, "TIME").varint()
    if not count <= size <= _MAX_TIME_BYTES * count:
        raise FormatError(f"TIME: {size} bytes cannot hold {count} times")
    steps = Reader(inflate(packed, "chunk_bytes", limits, "TIME"), "TIME")
    pts = [steps.signed()]
    for _ in range(count - 1):
        pts.append(pts[-1] + steps.varint(1 << 40))
        if pts[-1] == pts[-2]:
            raise FormatError("TIME: two frames share a time")
    steps.end()
    return replace(header, info=replace(header.info, pts=tuple(pts), time_base=time_base))


def encode_graphs(graphs: Sequence[CanonicalGraph]) -> bytes:
    """GRPH."""
    w = Writer().varint(len(graphs))
    for graph in graphs:
        w.raw(bytes([ROLES.index(graph.role), RESULTS.index(graph.result)])).raw(graph.digest)
        w.blob(deflate(graph.to_bytes()))
    return w.bytes_()


def decode_graphs(payload: bytes, header: Header, limits: Limits) -> Header:
    """GRPH; every graph is validated and rebuilt, and gives frames of the header's size, or tiles of what it holds."""
    _check_media(header)
    r = Reader(payload, "GRPH")
    graphs = []
    for _ in range(limits.check("graphs", r.varint(), "GRPH")):
        role, output = r.raw(2)
        digest = r.raw(16)
        data = inflate(r.blob(r.left), "graph_bytes", limits, "GRPH")
        if (role, output) not in _GIVES[header.media]:
            raise FormatError(f"GRPH: role {role} and output {output} are unknown, or not those of {header.media}")
        graph = CanonicalGraph.from_bytes(data, limits, ROLES[role], RESULTS[output])
        if graph.digest != digest:
            raise FormatError("GRPH: the digest does not match the graph")
        _check_extent(graph, header, limits)
        graphs.append(graph)
    r.end()
    if not graphs:
        raise FormatError("GRPH: no graph")
    return replace(header, graphs=tuple(graphs))


_GIVES = {"video": ((0, 0), (1, 0)), "image": ((0, 0), (1, 0)), "audio": ((1, 2),)}
"""Role and output of the graphs that a file of each kind may hold."""


def _check_media(header: Header) -> None:
    """An image is one frame; sound is a row of channels."""
    info = header.info
    sound = header.media == "audio" and (info.width > MAX_CHANNELS or info.height > 1)
    if sound or (header.media == "image" and info.frame_count > 1):
        raise FormatError(f"INFO: no {header.media} has {info.frame_count} frames of {info.width}x{info.height}")


def _check_extent(graph: CanonicalGraph, header: Header, limits: Limits) -> None:
    """A frame has the header's size, a sound its channels; the tiles of a frame are neither too many nor too costly."""
    size, channels = (header.info.width, header.info.height), graph.shapes[graph.output][1]
    if graph.role == "frame" and graph.size != size:
        raise FormatError(f"GRPH: the graph makes {graph.size} pixels, the header says otherwise")
    if graph.result == "pcm_f32" and channels != header.info.width:
        raise FormatError(f"GRPH: the graph makes {channels} channels, the header says otherwise")
    if graph.role == "tile" and graph.result == "rgb8":
        count = limits.check("tiles", count_tiles(size, graph.size), "GRPH: tiles of a frame")
        limits.check("macs_per_frame", count * graph.macs, "GRPH: MACs per frame")


def encode_ranges(graph: int, ranges: Mapping[str, Range]) -> bytes:
    """ACTR."""
    w = Writer().varint(graph).varint(len(ranges))
    for edge, (low, high) in ranges.items():
        w.raw(edge[:1].encode()).varint(int(edge[1:])).raw(struct.pack("<ff", low, high))
    return w.bytes_()


def decode_ranges(payload: bytes, header: Header, limits: Limits) -> Header:
    """ACTR; ranges must be finite, ordered and name edges of their graph."""
    r = Reader(payload, "ACTR")
    number = r.varint(limits.graphs)
    if number >= len(header.graphs) or number in header.ranges:
        raise FormatError(f"ACTR: graph {number} does not exist or has ranges already")
    ranges: dict[str, Range] = {}
    for _ in range(limits.check("graph_nodes", r.varint(), "ACTR")):
        letter = r.raw(1).decode("latin-1")
        edge = f"{letter}{r.varint()}"
        low, high = struct.unpack("<ff", r.raw(8))
        known = letter in "xe" and edge in header.graphs[number].shapes and edge not in ranges
        if not known or not low <= high:
            raise FormatError(
                f"ACTR: edge {edge!r} is unknown or given twice, or its range [{low}, {high}] is not ordered"
            )
        activation_parameters((low, high))
        ranges[edge] = (low, high)
    r.end()
    return replace(header, ranges={**header.ranges, number: ranges})


def encode_index(entries: Sequence[IndexEntry], header_hash: bytes) -> bytes:
    """INDX. header_hash: `hash_header` of all chunks before the first segment."""
    w = Writer().raw(header_hash).varint(len(entries))
    for e in entries:
        w.varint(e.offset).varint(e.length).varint(e.first_frame).varint(e.frame_count)
        w.raw(bytes([e.random_access])).varint(e.preroll)
    return w.bytes_()


def decode_index(payload: bytes, limits: Limits) -> tuple[tuple[IndexEntry, ...], bytes]:
    """INDX: its entries and the header's hash."""
    r = Reader(payload, "INDX")
    entries, header_hash = [], r.raw(16)
    for _ in range(limits.check("segments", r.varint(), "INDX")):
        offset, length, first, count = r.varint(), r.varint(), r.varint(), r.varint()
        random_access = r.raw(1)[0]
        if count < 1 or random_access > 1:
            raise FormatError("INDX: an empty segment or an unknown flag")
        entries.append(IndexEntry(offset, length, first, count, bool(random_access), r.varint()))
    r.end()
    return tuple(entries), header_hash


def check_order(index: Sequence[IndexEntry]) -> None:
    """Segments must follow each other without gaps, in frames and in bytes."""
    if not index:
        raise FormatError("the file holds no segment")
    frame, position = 0, index[0].offset
    for entry in index:
        if (entry.first_frame, entry.offset) != (frame, position):
            raise FormatError(
                f"segments do not follow each other: expected frame {frame} at byte {position}, "
                f"found frame {entry.first_frame} at byte {entry.offset}"
            )
        frame, position = frame + entry.frame_count, position + entry.length


def hash_header(parts: Iterable[bytes]) -> bytes:
    """First half of the SHA-256 of the chunks before the first segment, given in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()[:16]


def encode_meta(meta: Mapping[str, str]) -> bytes:
    """meta."""
    return deflate(json.dumps(dict(meta), sort_keys=True).encode())


def decode_meta(payload: bytes, header: Header, limits: Limits) -> Header:
    """meta."""
    data = inflate(payload, "text_bytes", limits, "meta")
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError("meta: not JSON") from error
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise FormatError("meta: expected an object of texts")
    return replace(header, meta={_plain(k, "meta"): _plain(v, "meta") for k, v in meta.items()})
