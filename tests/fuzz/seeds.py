"""The good files that mutants are made of, taken apart once."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.fuzz.corpus import FOLDER
from tests.fuzz.judge import LIMITS, Playback, play
from tests.surgery import Chunk, take_apart, with_index

from inr_runtime.chunks import (
    Header,
    IndexEntry,
    encode_graphs,
    encode_info,
    encode_meta,
    encode_ranges,
    encode_times,
)
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph
from inr_runtime.segment import Segment, encode_segment
from inr_runtime.wire import Writer, deflate

GOLDEN = Path(__file__).parents[1] / "runtime" / "golden"


@dataclass(frozen=True, eq=False)
class Seed:
    """A good file. chunks: all of them, INDX and IEND included; playback: what it shows."""

    name: str
    data: bytes
    chunks: tuple[Chunk, ...]
    header: Header
    segments: tuple[Segment, ...]
    index: tuple[IndexEntry, ...]
    playback: Playback

    @property
    def body(self) -> list[Chunk]:
        """The chunks before the index."""
        return list(self.chunks[:-2])

    @property
    def lengths(self) -> list[int]:
        """Frames of each segment."""
        return [entry.frame_count for entry in self.index]

    def indexed(self, chunks: list[Chunk]) -> bytes:
        """A file of these chunks before the index, with checksums and an index that is true of them."""
        return with_index(chunks, None, self.lengths)


@lru_cache(maxsize=1)
def seeds() -> tuple[Seed, ...]:
    """The corpus, the golden files, and a file as it is exported, with a sound track that nobody reads yet."""
    paths = [*sorted(FOLDER.glob("*.nvb")), *sorted(GOLDEN.glob("*.nvb"))]
    found = [_seed(path) for path in paths]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "with-extras.nvb"
        extras = [Chunk(b"audo", bytes(range(200))), Chunk(b"note", b"of a later version")]
        path.write_bytes(found[0].indexed([*found[0].body, *extras]))
        return (*found, _seed(path))


def any_seed(rng: random.Random) -> Seed:
    """One of the good files, small ones rather."""
    return min(rng.sample(seeds(), 2), key=lambda seed: len(seed.data))


def _seed(path: Path) -> Seed:
    data = path.read_bytes()
    with NvbReader(path, LIMITS) as reader:
        segments = tuple(reader.segment(i) for i in range(len(reader.index)))
        header, index = reader.header, reader.index
    return Seed(path.stem, data, tuple(take_apart(data)), header, segments, index, play(path))


def signed(header: Header, segments: tuple[Segment, ...]) -> bytes:
    """A file whose checksums, digests and index are all right, as its author would make it."""
    chunks = [Chunk(b"INFO", encode_info(header))]
    if header.info.pts is not None:
        chunks.append(Chunk(b"TIME", encode_times(header.info.pts, header.info.time_base)))
    chunks.append(Chunk(b"GRPH", encode_graphs(header.graphs)))
    chunks += [Chunk(b"ACTR", encode_ranges(graph, ranges)) for graph, ranges in header.ranges.items()]
    chunks += [Chunk(b"meta", encode_meta(header.meta))] if header.meta else []
    chunks += [Chunk(b"SEGM", encode_segment(segment, header)) for segment in segments]
    return with_index(chunks, None, [segment.frame_count for segment in segments])


def signed_graph(chunks: Sequence[Chunk], old_digest: bytes, graph: bytes) -> list[Chunk]:
    """The chunks with another graph's bytes, under the digest that a reader will compute, in every segment too."""
    digest = _digest(graph)
    payload = Writer().varint(1).raw(bytes(2)).raw(digest).blob(deflate(graph)).bytes_()
    return [Chunk(c.tag, payload if c.tag == b"GRPH" else c.payload.replace(old_digest, digest)) for c in chunks]


def _digest(graph: bytes) -> bytes:
    """Anything where the graph is none of the dialect: that it is refused properly is for the judge to say."""
    try:
        return CanonicalGraph.from_bytes(graph, LIMITS).digest
    except Exception:
        return bytes(16)
