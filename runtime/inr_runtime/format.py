r"""The .nvb file: a video as a neural network. This docstring is its specification, version 0.1.

While the version is 0.x, files may have to be exported again after an update; the CHANGELOG says when. A reader
refuses a major version above its own.

**Notation.** Little-endian. `varint`: unsigned LEB128. `signed`: zigzag varint. `text`, `blob`: varint length, bytes.
`fraction`: two positive varints. `deflated X`: varint length of X, then a zlib stream.

**File.** Magic `89 4E 56 42 0D 0A 1A 0A` (`\x89NVB\r\n\x1a\n`), u16 major, u16 minor, then chunks:
`tag[4] · u32 length · payload · u32 crc32(tag, length, payload)`. An upper-case first letter is critical: a reader that
does not know it refuses the file; a lower-case one may be skipped. Order: INFO, [TIME], GRPH, [ACTR], [meta], SEGM ...,
[audo], INDX, IEND.

| chunk | payload |
|---|---|
| INFO | u8 media kind (0 video, 1 image, 2 audio); varint width, height, frame count; fraction fps, pixel aspect; u8 primaries, transfer, matrix tag (ITU-T H.273 numbers), matrix used (0 bt601, 1 bt709, 2 bt2020), full range (0/1), source bit depth; text model name; file id[16] |
| TIME | fraction time base; deflated (signed first pts, then varint steps >= 1): one pts per frame; absent when frame i stands at i/fps |
| GRPH | varint count; per graph: u8 role (0 frame), u8 output (0 rgb8), digest[16], deflated canonical graph (`graph.py`) |
| ACTR | varint graph; varint count; per edge `e<n>` or input `x<n>`: u8 letter, varint n, f32 low, f32 high |
| SEGM | see below |
| INDX | varint count; per segment: varint offset, length of the whole chunk, first frame, frame count, u8 random access, varint preroll |
| IEND | u64 offset of INDX |
| meta | deflated UTF-8 JSON object of texts: what made the file; never needed to play |
| audo | audio packets (reserved) |

**SEGM.** varint graph, first frame, frame count; file id[16]; graph digest[16] (a chunk from another file is caught);
integers' hash[16] = SHA-256, first half, over every stored integer as int32; varint thumbnail frame, u8 width, height,
then width*height*3 RGB bytes: the frame averaged over boxes, to notice wrong pictures; then tensors:

1. per weight of the graph: u8 axis of its scales (255 none). Shapes are the graph's.
2. varint count of time tensors (one per graph input); each: u8 rule (0 encoding, 1 row, 2 lerp, 3 window), varint length,
   f64 offset, stride, base; varint levels, window; and unless the rule is encoding: varint rank, dims of one slice, u8 axis.
3. blob: one entropy-coded stream (`entropy.py`) of all weights' integers, then all weights' and time tensors' scale codes.
4. per time tensor with data: blobs of 16 slices each, the last may be shorter.

A weight is `integer * 2^(scale code / 64)` (`tensors.py`). t counts frames from the segment's start (`sample.py`).

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
from typing import BinaryIO

from inr_runtime.chunks import (
    Header,
    IndexEntry,
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
)
from inr_runtime.errors import (
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
VERSION = (0, 1)
_HEAD = struct.Struct("<4sI")
_KNOWN = {b"INFO", b"TIME", b"GRPH", b"ACTR", b"SEGM", b"INDX", b"IEND"}
_END_BYTES = _HEAD.size + 8 + 4


def write_nvb(path: Path, header: Header, segments: Sequence[Segment]) -> int:
    """Write a whole file, atomically; returns its size in bytes."""
    with writing(path) as file:
        file.write(MAGIC + struct.pack("<HH", *VERSION))
        _write_chunk(file, b"INFO", encode_info(header))
        if header.info.pts is not None:
            _write_chunk(file, b"TIME", encode_times(header.info.pts, header.info.time_base))
        _write_chunk(file, b"GRPH", encode_graphs(header.graphs))
        for graph, ranges in header.ranges.items():
            _write_chunk(file, b"ACTR", encode_ranges(graph, ranges))
        if header.meta:
            _write_chunk(file, b"meta", encode_meta(header.meta))
        index = []
        for segment in segments:
            start = file.tell()
            _write_chunk(file, b"SEGM", encode_segment(segment, header))
            index.append(IndexEntry(start, file.tell() - start, segment.first_frame, segment.frame_count))
        position = file.tell()
        _write_chunk(file, b"INDX", encode_index(index))
        _write_chunk(file, b"IEND", struct.pack("<Q", position))
        return file.tell()


def _write_chunk(file: BinaryIO, tag: bytes, payload: bytes) -> None:
    head = _HEAD.pack(tag, len(payload))
    file.write(head + payload + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))))


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
            with self._named():
                self.size = os.fstat(self._file.fileno()).st_size
                self._check_magic()
                self.meta_bytes = 0
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
        return self.size - self.meta_bytes

    @property
    def bits_per_pixel(self) -> float:
        """video_bytes * 8 over all pixels of all frames."""
        info = self.header.info
        return self.video_bytes * 8 / (info.width * info.height * info.frame_count)

    def segment(self, number: int) -> Segment:
        """Read, check and decode segment `number`. Raises `NvbError`."""
        entry = self.index[number]
        with self._named(f"segment {number}"):
            tag, payload, _ = self._chunk(entry.offset)
            if tag != b"SEGM":
                raise FormatError(f"the index points at a {tag!r} chunk")
            segment = decode_segment(payload, self.header, self.limits)
            if (segment.first_frame, segment.frame_count) != (entry.first_frame, entry.frame_count):
                raise FormatError("the index and the segment disagree about its frames")
            return segment

    @contextmanager
    def _named(self, part: str = "") -> Iterator[None]:
        try:
            yield
        except NvbError as error:
            where = f"{self.path}: {part}: " if part else f"{self.path}: "
            raise type(error)(where + str(error)) from error

    def _check_magic(self) -> None:
        head = self._file.read(len(MAGIC) + 4)
        if head[: len(MAGIC)] != MAGIC:
            raise NotNvbError("not a .nvb file (inr-export makes one from a video or a model.pt)")
        if len(head) < len(MAGIC) + 4:
            raise TruncatedError("the file ends after its magic")
        major, minor = struct.unpack("<HH", head[len(MAGIC) :])
        if major > VERSION[0]:
            raise VersionError(
                f"format version {major}.{minor} is newer than {VERSION[0]}.x; update inr-video to play it"
            )

    def _read_header(self) -> tuple[Header, tuple[IndexEntry, ...]]:
        chunks: dict[bytes, list[bytes]] = {}
        position = len(MAGIC) + 4
        while True:
            tag, payload, end = self._chunk(position, skip=b"SEGM")
            if tag in (b"SEGM", b"INDX"):
                break
            chunks.setdefault(tag, []).append(payload)
            self.meta_bytes += end - position if tag in (b"meta", b"audo") else 0
            position = end
        header = self._parse_header(chunks)
        index = self._read_index()
        _check_coverage(index, header.info.frame_count)
        return header, index

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

    def _read_index(self) -> tuple[IndexEntry, ...]:
        tag, payload, _ = self._chunk(self.size - _END_BYTES)
        if tag != b"IEND" or len(payload) != 8:
            raise TruncatedError("the file does not end with its IEND chunk; it was cut off or something was appended")
        (position,) = struct.unpack("<Q", payload)
        tag, payload, _ = self._chunk(position)
        if tag != b"INDX":
            raise FormatError("IEND does not point at the index")
        return decode_index(payload, self.limits)

    def _chunk(self, position: int, skip: bytes = b"") -> tuple[bytes, bytes, int]:
        """Tag, checked payload and end of the chunk at `position`; a chunk tagged `skip` is not read."""
        if not 0 <= position <= self.size - _HEAD.size - 4:
            raise TruncatedError(f"expected a chunk at byte {position}, the file has {self.size} bytes")
        self._file.seek(position)
        head = self._file.read(_HEAD.size)
        tag, length = _HEAD.unpack(head)
        end = position + _HEAD.size + length + 4
        if tag == skip:
            return tag, b"", end
        if tag not in _KNOWN and not (tag.isalpha() and tag[:1].islower()):
            raise FormatError(f"unknown critical chunk {tag!r} at byte {position}")
        if end > self.size:
            raise TruncatedError(
                f"chunk {tag!r} at byte {position} needs {end - self.size} bytes more than the file has"
            )
        self.limits.check("chunk_bytes", length, f"chunk {tag!r}")
        payload = self._file.read(length)
        (stored,) = struct.unpack("<I", self._file.read(4))
        if stored != zlib.crc32(payload, zlib.crc32(head)):
            raise ChecksumError(f"chunk {tag!r} at byte {position} is damaged: its checksum does not match")
        return tag, payload, end


def _check_coverage(index: Sequence[IndexEntry], frame_count: int) -> None:
    position = 0
    for entry in index:
        if entry.first_frame != position:
            raise FormatError(
                f"segments do not follow each other: expected frame {position}, found {entry.first_frame}"
            )
        position += entry.frame_count
    if position != frame_count:
        raise FormatError(f"segments hold {position} frames, the header says {frame_count}")
