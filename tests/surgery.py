"""Taking .nvb files apart and putting them together again, with or without honest checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from inr_runtime.chunks import IndexEntry, encode_index, hash_header
from inr_runtime.format import MAGIC, VERSION

HEAD = 12


@dataclass(frozen=True)
class Chunk:
    """Tag and payload; whole: as it stands in a file."""

    tag: bytes
    payload: bytes

    @property
    def whole(self) -> bytes:
        body = self.tag + struct.pack("<I", len(self.payload)) + self.payload
        return body + struct.pack("<I", zlib.crc32(body))


def take_apart(data: bytes) -> list[Chunk]:
    """The chunks of a good file, in order."""
    chunks, position = [], HEAD
    while position < len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        chunks.append(Chunk(data[position : position + 4], data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def put_together(chunks: Sequence[Chunk], version: tuple[int, int] = VERSION) -> bytes:
    """A file of these chunks with right checksums, as they are: its index may lie."""
    return MAGIC + struct.pack("<HH", *version) + b"".join(chunk.whole for chunk in chunks)


def with_index(chunks: Sequence[Chunk], entries: Sequence[IndexEntry] | None, frames: Sequence[int]) -> bytes:
    """A file of these chunks and an index behind them: `entries`, or one that is true of segments of `frames`."""
    positions = [HEAD]
    for chunk in chunks:
        positions.append(positions[-1] + len(chunk.whole))
    if entries is None:
        segments = [(p, len(c.whole)) for p, c in zip(positions, chunks, strict=False) if c.tag == b"SEGM"]
        entries = [
            IndexEntry(p, size, sum(frames[:i]), frames[i]) for i, (p, size) in enumerate(segments[: len(frames)])
        ]
    index = Chunk(b"INDX", encode_index(entries, header_hash(chunks)))
    return put_together([*chunks, index, Chunk(b"IEND", struct.pack("<Q", positions[-1]))])


def header_hash(chunks: Sequence[Chunk]) -> bytes:
    """What an index says of the chunks before the first segment."""
    return hash_header(chunk.whole for chunk in takewhile(lambda chunk: chunk.tag != b"SEGM", chunks))
