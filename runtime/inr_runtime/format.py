r"""The .nvb file: a video as a neural network. This docstring is its specification, version 0.2.

While the version is 0.x, files may have to be exported again after an update; the CHANGELOG says when. A reader
refuses a major version above its own, and versions before 0.2.

**Notation.** Little-endian. `varint`: unsigned LEB128, at most 2^62. `signed`: zigzag varint. `blob`: varint length,
bytes. `text`: a blob of UTF-8 without control characters. `fraction`: two varints of 1 to 2^32. `deflated X`: varint
length of X, then a zlib stream.

**File.** Magic `89 4E 56 42 0D 0A 1A 0A` (`\x89NVB\r\n\x1a\n`), u16 major, u16 minor, then chunks:
`tag[4] · u32 length · payload · u32 crc32(tag, length, payload)`. An upper-case first letter is critical: a reader that
does not know it refuses the file; a lower-case one may be skipped. Order: INFO, [TIME], GRPH, [ACTR], [meta], SEGM ...,
[audo], INDX, IEND, without gaps; chunks to be skipped may stand anywhere but between two SEGM.

| chunk | payload |
|---|---|
| INFO | u8 media kind (0 video, 1 image: one frame, 2 audio: width is the channels, height 1, a frame is a sample); varint width, height, frame count; fraction fps, pixel aspect; u8 primaries, transfer, matrix tag (ITU-T H.273 numbers), matrix used (0 bt601, 1 bt709, 2 bt2020), full range (0/1), source bit depth; text model name; file id[16] |
| TIME | fraction time base; deflated (signed first pts, then varint steps >= 1): one pts per frame; absent when frame i stands at i/fps |
| GRPH | varint count; per graph: u8 role (0 frame, 1 tile), u8 output (0 rgb8, 2 pcm_f32 for audio and only there, in tiles), digest[16] = first half of the SHA-256 of the graph's bytes, blob of the deflated canonical graph (`graph.py`) |
| ACTR | varint graph; varint count; per edge `e<n>` or input `x<n>`: u8 letter, varint n, f32 low, f32 high. An edge without a range is not quantized, and what needs it computes in float (`int8plan.py`) |
| SEGM | see below |
| INDX | hash[16] = first half of the SHA-256 of all chunks before the first SEGM (one from another file is caught); varint count; per segment: varint offset, length of the whole chunk, first frame, frame count, u8 random access, varint preroll |
| IEND | u64 offset of INDX |
| meta | deflated UTF-8 JSON object of texts (newline and tab allowed): what made the file; never needed to play |
| audo | audio packets (reserved) |

**SEGM.** varint graph, first frame, frame count; file id[16]; graph digest[16] (a chunk from another file is caught);
integers' hash[16] = first half of the SHA-256 over every stored integer as i32 in C order (per weight, then per time tensor:
values, then scale codes); varint thumbnail frame, u8 width, height,
then width*height*3 RGB bytes: the frame averaged over boxes, to notice wrong pictures (audio: as many samples of the
first channel from that frame on, (s + 1) * 127.5 rounded, the last ones repeated); then tensors:

1. per weight of the graph: u8 axis of its scales (255 none). Shapes are the graph's.
2. varint count of time tensors (one per graph input); each: u8 rule (0 encoding, 1 row, 2 lerp, 3 window, 4 x, 5 y,
   6 t), varint length, f64 offset, stride, base; varint levels, window; and for rules 1 to 3: varint rank and dims of
   one slice, u8 axis of its scales, counted with the time axis as 0.
3. blob: one entropy-coded stream (`entropy.py`) of all weights' integers (rows along the axis of their scales), then all
   weights' and time tensors' scale codes (one row each).
4. per time tensor with data: blobs of 16 slices each, the last may be shorter; rows along the axis of the scales, one
   row where that is time.

A weight is `integer * 2^(scale code / 64)` (`tensors.py`). t counts frames from the segment's start (`sample.py`).

**Tiles.** A graph of role tile draws, at the coordinates it is fed along x and y, a part of a picture of any size: pixel
i of n stands at (2 i + 1) / n - 1, and what lies beyond the border is cut off (`tiles.py`). Sound has x alone: sample i
of a segment's n stands there too, and a moment between two samples between them, so that any rate can be decoded.

**Size.** `bytes` is the size on disk; `video_bytes` is that less `audo` and `meta`;
bits per pixel = video_bytes * 8 / (width * height * frame count).
"""  # noqa: E501

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inr_runtime.chunks import (
    Header,
    IndexEntry,
    check_order,
    decode_graphs,
    decode_index,
    decode_info,
    decode_meta,
    decode_ranges,
    decode_times,
    encode_graphs,
    encode_index,
    encode_info,
    encode_meta,
    encode_ranges,
    encode_times,
    hash_header,
)
from inr_runtime.errors import (
    BackendError,
    ChecksumError,
    FormatError,
    InputError,
    NotNvbError,
    NvbError,
    TruncatedError,
    VersionError,
)
from inr_runtime.files import writing
from inr_runtime.limits import DEFAULT_LIMITS, Limits
from inr_runtime.segment import Segment, decode_segment, encode_segment

MAGIC = b"\x89NVB\r\n\x1a\n"
VERSION = (0, 2)
_HEAD = struct.Struct("<4sI")
_START = len(MAGIC) + 4
_HEADER_TAGS = frozenset({b"INFO", b"TIME", b"GRPH", b"ACTR", b"meta"})
_UNCOUNTED = frozenset({b"meta", b"audo"})
_END_BYTES = _HEAD.size + 8 + 4
_BLOCK = 1 << 20


def write_nvb(path: Path, header: Header, segments: Sequence[Segment]) -> int:
    """Write a whole file, atomically; returns its size in bytes."""
    with writing(path) as file:
        file.write(MAGIC + struct.pack("<HH", *VERSION))
        chunks = _header_chunks(header)
        file.writelines(chunks)
        index = []
        for segment in segments:
            start = file.tell()
            file.write(_chunk(b"SEGM", encode_segment(segment, header)))
            index.append(IndexEntry(start, file.tell() - start, segment.first_frame, segment.frame_count))
        position = file.tell()
        file.write(_chunk(b"INDX", encode_index(index, hash_header(chunks))))
        file.write(_chunk(b"IEND", struct.pack("<Q", position)))
        return file.tell()


def _header_chunks(header: Header) -> list[bytes]:
    """Every chunk before the first segment."""
    chunks = [_chunk(b"INFO", encode_info(header))]
    if header.info.pts is not None:
        chunks.append(_chunk(b"TIME", encode_times(header.info.pts, header.info.time_base)))
    chunks.append(_chunk(b"GRPH", encode_graphs(header.graphs)))
    for graph, ranges in header.ranges.items():
        chunks.append(_chunk(b"ACTR", encode_ranges(graph, ranges)))
    if header.meta:
        chunks.append(_chunk(b"meta", encode_meta(header.meta)))
    return chunks


def _chunk(tag: bytes, payload: bytes) -> bytes:
    head = _HEAD.pack(tag, len(payload))
    return head + payload + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head)))


class NvbReader:
    """An open .nvb file: its header is read at once, each segment when asked for. A context manager.

    Raises at construction: `InputError` (no such file), `NotNvbError`, `VersionError`, `TruncatedError`,
    `ChecksumError`, `FormatError`, `GraphError`, `LimitError`; all but the first are `NvbError` and name the file.
    """

    def __init__(self, path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> None:
        self.path, self.limits = Path(path), limits
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise InputError(f"cannot open {self.path}: {error.strerror}") from error
        try:
            with self.naming():
                self.size = os.fstat(self._file.fileno()).st_size
                self._check_magic()
                self.uncounted_bytes = 0
                self.header, self.index = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> NvbReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading segments is an error afterwards."""
        self._file.close()

    @property
    def video_bytes(self) -> int:
        """Size without audio and meta chunks."""
        return self.size - self.uncounted_bytes

    @property
    def bits_per_pixel(self) -> float:
        """video_bytes * 8 over all pixels of all frames."""
        info = self.header.info
        return self.video_bytes * 8 / (info.width * info.height * info.frame_count)

    def segment(self, number: int) -> Segment:
        """Read, check and decode segment `number`. Raises `NvbError`."""
        entry = self.index[number]
        with self.naming(f"segment {number}"):
            tag, length, end = self._head(entry.offset)
            if tag != b"SEGM" or end != entry.offset + entry.length:
                raise FormatError(f"the index promises {entry.length} bytes of segment, found a chunk {tag!r}")
            segment = decode_segment(self._payload(entry.offset, tag, length), self.header, self.limits)
            if (segment.first_frame, segment.frame_count) != (entry.first_frame, entry.frame_count):
                raise FormatError("the index and the segment disagree about its frames")
            return segment

    @contextmanager
    def naming(self, part: str = "") -> Iterator[None]:
        """What fails inside, in the file or in an engine that plays it, is named with the file and its `part`."""
        try:
            yield
        except (NvbError, BackendError) as error:
            where = f"{self.path}: {part}: " if part else f"{self.path}: "
            raise type(error)(where + str(error)) from error
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error

    def _check_magic(self) -> None:
        head = self._file.read(_START)
        if head[: len(MAGIC)] != MAGIC:
            raise NotNvbError("not a .nvb file (inr-export makes one from a video or a model.pt)")
        if len(head) < _START:
            raise TruncatedError("the file ends after its magic")
        major, minor = struct.unpack("<HH", head[len(MAGIC) :])
        if major > VERSION[0]:
            raise VersionError(
                f"format version {major}.{minor} is newer than {VERSION[0]}.x; update inr-video to play it"
            )
        if (major, minor) < VERSION:
            raise VersionError(f"format version {major}.{minor} is no longer read; export the model.pt again")

    def _read_header(self) -> tuple[Header, tuple[IndexEntry, ...]]:
        index, header_hash, stop = self._read_index()
        check_order(index)
        chunks: dict[bytes, list[bytes]] = {}
        for tag, payload in self._walk(_START, index[0].offset, _HEADER_TAGS):
            chunks.setdefault(tag, []).append(payload)
        if hash_header(self._blocks(_START, index[0].offset)) != header_hash:
            raise ChecksumError("the chunks before the segments are not those that the index was written for")
        header = self._parse_header(chunks)
        if sum(entry.frame_count for entry in index) != header.info.frame_count:
            raise FormatError(f"segments do not hold the {header.info.frame_count} frames that the header promises")
        for _ in self._walk(index[-1].offset + index[-1].length, stop, frozenset()):
            pass
        return header, index

    def _walk(self, start: int, stop: int, known: frozenset[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Tag and payload of the known chunks from `start` up to exactly `stop`; others are skipped or refused."""
        count = 0
        while start < stop:
            tag, length, end = self._head(start)
            self.limits.check("chunks", count := count + 1, "chunks beside the segments")
            if tag in _UNCOUNTED:
                self.uncounted_bytes += end - start
            if tag in known:
                yield tag, self._payload(start, tag, length)
            elif not (tag.isalpha() and tag[:1].islower()):
                raise FormatError(f"critical chunk {tag!r} at byte {start} is unknown, or is not expected there")
            start = end
        if start != stop:
            raise FormatError(f"a chunk ends at byte {start}, the index says {stop}")

    def _parse_header(self, chunks: dict[bytes, list[bytes]]) -> Header:
        missing = [t.decode() for t in (b"INFO", b"GRPH") if len(chunks.get(t, [])) != 1]
        if missing or len(chunks.get(b"TIME", [])) > 1:
            raise FormatError(f"expected exactly one chunk of each of {missing or ['TIME']} before the segments")
        header = decode_info(chunks[b"INFO"][0], self.limits)
        header = decode_graphs(chunks[b"GRPH"][0], header, self.limits)
        for payload in chunks.get(b"TIME", []):
            header = decode_times(payload, header, self.limits)
        for payload in chunks.get(b"ACTR", []):
            header = decode_ranges(payload, header, self.limits)
        for payload in chunks.get(b"meta", [])[:1]:
            header = decode_meta(payload, header, self.limits)
        return header

    def _blocks(self, start: int, stop: int) -> Iterator[bytes]:
        for position in range(start, stop, _BLOCK):
            yield self._read(position, min(_BLOCK, stop - position))

    def _read_index(self) -> tuple[tuple[IndexEntry, ...], bytes, int]:
        """The index, the header's hash, and where the chunk of both begins."""
        last = self.size - _END_BYTES
        if last < _START or self._read(last, _HEAD.size) != _HEAD.pack(b"IEND", 8):
            raise TruncatedError("the file does not end with its IEND chunk; it was cut off or something was appended")
        (position,) = struct.unpack("<Q", self._payload(last, b"IEND", 8))
        tag, length, end = self._head(position)
        if tag != b"INDX" or end != last:
            raise FormatError("IEND does not point at the index")
        return (*decode_index(self._payload(position, tag, length), self.limits), position)

    def _head(self, position: int) -> tuple[bytes, int, int]:
        """Tag, payload length and end of the chunk at `position`."""
        if not _START <= position <= self.size - _HEAD.size - 4:
            raise TruncatedError(f"expected a chunk at byte {position}, the file has {self.size} bytes")
        tag, length = _HEAD.unpack(self._read(position, _HEAD.size))
        end = position + _HEAD.size + length + 4
        if end > self.size:
            raise TruncatedError(
                f"chunk {tag!r} at byte {position} needs {end - self.size} bytes more than the file has"
            )
        return tag, length, end

    def _payload(self, position: int, tag: bytes, length: int) -> bytes:
        """Checked payload of the chunk at `position`."""
        self.limits.check("chunk_bytes", length, f"chunk {tag!r}")
        payload = self._read(position + _HEAD.size, length)
        (stored,) = struct.unpack("<I", self._read(position + _HEAD.size + length, 4))
        if stored != zlib.crc32(payload, zlib.crc32(_HEAD.pack(tag, length))):
            raise ChecksumError(f"chunk {tag!r} at byte {position} is damaged: its checksum does not match")
        return payload

    def _read(self, position: int, count: int) -> bytes:
        self._file.seek(position)
        data = self._file.read(count)
        if len(data) < count:
            raise TruncatedError(f"the file ends at byte {position + len(data)}; it shrank while it was read")
        return data
