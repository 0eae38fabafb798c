"""The .nvb file: golden files decode for ever, every field survives, and a file that lies is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb, random_weights, tiny_graph
from golden import EXPECTED, FOLDER, NAMES, ODD_INFO, fingerprint, rewrite
from surgery import Chunk, put_together, take_apart, with_index

from inr_runtime import open_video
from inr_runtime.chunks import Header, IndexEntry
from inr_runtime.errors import (
    BackendError,
    FormatError,
    InputError,
    NotNvbError,
    NvbError,
    TruncatedError,
    VersionError,
)
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.info import VideoInfo
from inr_runtime.segment import Segment, segment_cost

TWO = (7, 5)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_still_holds_the_same_integers(name: str) -> None:
    """If this fails, files in the wild no longer decode: bump the version, or run `python tests/golden.py`."""
    assert fingerprint(FOLDER / name) == json.loads(EXPECTED.read_text())[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_file_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    assert rewrite(FOLDER / name, tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize(("name", "frames"), [(NAMES[0], 12), (NAMES[1], 25)])
def test_a_golden_file_still_plays(name: str, frames: int) -> None:
    """Opening a segment compares a decoded frame with the thumbnail that was stored then."""
    with open_video(FOLDER / name) as video:
        assert len(video[:]) == frames


def test_what_stands_in_the_golden_header() -> None:
    with NvbReader(FOLDER / NAMES[1]) as reader:
        header = reader.header
    assert header.info == ODD_INFO
    assert (header.model, header.file_id, header.media) == ("nœud à ondes 波", bytes(range(100, 116)), "video")
    assert (header.ranges, header.meta) == ({}, {})


OTHER_VALUES: list[VideoInfo] = [
    ODD_INFO,
    replace(ODD_INFO, pts=None, time_base=Fraction(1, 1000), fps=Fraction(1, 7)),
    replace(ODD_INFO, pts=(-5000, *range(0, 24 << 35, 1 << 35)), time_base=Fraction(1, 1_000_000_007)),
    VideoInfo(24, 16, 25, matrix_used="bt709", bit_depth=16, primaries=255, pixel_aspect=Fraction(4096, 4095)),
]


@pytest.mark.parametrize("info", OTHER_VALUES)
def test_every_field_of_a_video_survives(info: VideoInfo, tmp_path: Path) -> None:
    with NvbReader(FOLDER / NAMES[1]) as reader:
        segments = [reader.segment(0), reader.segment(1)]
        header = replace(reader.header, info=info)
    write_nvb(tmp_path / "copy.nvb", header, segments)
    with NvbReader(tmp_path / "copy.nvb") as reader:
        assert reader.header.info == info


def test_every_field_of_a_header_survives(tmp_path: Path) -> None:
    graph = tiny_graph()
    values = {
        "info": VideoInfo(48, 32, 1, Fraction(24)),
        "model": "ネルフ" * 20,
        "file_id": b"sixteen bytes id",
        "graphs": (graph,),
        "ranges": {0: {"e0": (-1.5, 2.25), "x0": (0.0, 1.0), "e6": (-3.0, -1.0)}},
        "meta": {"note": "line one\nline two\t→ ünïcode", "": ""},
        "media": "image",
    }
    assert set(values) == {f.name for f in fields(Header)}
    header = Header(**values)  # type: ignore[arg-type]
    write_nvb(tmp_path / "copy.nvb", header, [])
    with pytest.raises(FormatError, match="no segment"):
        NvbReader(tmp_path / "copy.nvb")
    with NvbReader(make_nvb(tmp_path / "donor.nvb")) as donor:
        segment = replace(donor.segment(0), frame_count=1)
    write_nvb(tmp_path / "copy.nvb", header, [segment])
    with NvbReader(tmp_path / "copy.nvb") as reader:
        read = reader.header
        assert reader.segment(0).frame_count == 1
    for name in ("info", "model", "file_id", "ranges", "meta", "media"):
        assert getattr(read, name) == values[name]
    assert [g.digest for g in read.graphs] == [graph.digest]


def assert_equal(left: Segment, right: Segment) -> None:
    pairs = list(zip(left.weights, right.weights, strict=True))
    for a, b in zip(left.time_tensors, right.time_tensors, strict=True):
        assert replace(a, data=None, rule="encoding") == replace(b, data=None, rule="encoding")
        assert (a.rule, a.data is None) == (b.rule, b.data is None)
        pairs += [(a.data, b.data)] if a.data is not None and b.data is not None else []
    for x, y in pairs:
        assert np.array_equal(x.values, y.values)
        assert np.array_equal(x.scale_codes, y.scale_codes)
        assert x.axis == y.axis
    assert np.array_equal(left.thumbnail, right.thumbnail)
    for name in ("graph", "first_frame", "frame_count", "thumbnail_frame"):
        assert getattr(left, name) == getattr(right, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_segment_survives(name: str, tmp_path: Path) -> None:
    with NvbReader(FOLDER / name) as first, NvbReader(rewrite(FOLDER / name, tmp_path / name)) as second:
        for number in range(len(first.index)):
            assert_equal(first.segment(number), second.segment(number))


@pytest.mark.parametrize("name", NAMES)
def test_costs_of_tensors_add_up_to_the_segments(name: str) -> None:
    with NvbReader(FOLDER / name) as reader:
        costs = [segment_cost(reader.segment(i), reader.header).tensors for i in range(len(reader.index))]
        sizes = [entry.length for entry in reader.index]
    for segment, size in zip(costs, sizes, strict=True):
        assert size - 400 < sum(cost.bits for cost in segment) / 8 < size
    assert {cost.name for cost in costs[0]} >= {"w0", "w1"}


def test_bits_per_pixel_leave_out_what_is_not_the_video(tmp_path: Path) -> None:
    """Neither the notes before the segments nor the sound behind them; a chunk that nobody knows counts."""
    bare = make_nvb(tmp_path / "bare.nvb")
    chunks = take_apart(bare.read_bytes())[:-2]
    meta = next(c for c in chunks if c.tag == b"meta")
    sound, unknown = Chunk(b"audo", bytes(5000)), Chunk(b"xtra", bytes(100))
    path = tmp_path / "more.nvb"
    path.write_bytes(with_index([*chunks, sound, unknown], None, [12]))
    with NvbReader(bare) as few, NvbReader(path) as many:
        assert few.video_bytes == few.size - len(meta.whole)
        assert many.video_bytes == few.video_bytes + len(unknown.whole)
        assert many.size == few.size + len(sound.whole) + len(unknown.whole)
        assert few.bits_per_pixel == few.video_bytes * 8 / (48 * 32 * 12)


@pytest.mark.parametrize("place", [0, 1, 3, -2])
def test_a_lower_case_chunk_that_nobody_knows_is_skipped(tiny_nvb: Path, tmp_path: Path, place: int) -> None:
    chunks = take_apart(tiny_nvb.read_bytes())
    chunks.insert(place, Chunk(b"note", b"of a later version"))
    with open_video(saved(tmp_path, with_index(chunks[:-2], None, [12]))) as video, open_video(tiny_nvb) as original:
        assert np.array_equal(video[3], original[3])


@pytest.mark.parametrize("tag", [b"NOTE", b"SEGX", b"1abc", b"\0\0\0\0", b"INFO", b"GRPH", b"TIME", b"IEND", b"INDX"])
@pytest.mark.parametrize("place", [1, -2])
def test_a_critical_chunk_where_none_is_expected_is_refused(
    tiny_nvb: Path, tmp_path: Path, tag: bytes, place: int
) -> None:
    chunks = take_apart(tiny_nvb.read_bytes())
    chunks.insert(place, Chunk(tag, b"?"))
    with pytest.raises(NvbError, match=r"file\.nvb: "):
        NvbReader(saved(tmp_path, with_index(chunks[:-2], None, [12])))


def test_a_newer_minor_version_is_read_and_a_newer_major_one_is_not(tiny_nvb: Path, tmp_path: Path) -> None:
    chunks = take_apart(tiny_nvb.read_bytes())
    with open_video(saved(tmp_path, put_together(chunks, (0, 99)))) as video:
        assert len(video) == 12
    with pytest.raises(VersionError, match=r"version 1\.0 is newer than 0\.x; update inr-video"):
        NvbReader(saved(tmp_path, put_together(chunks, (1, 0))))


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "file.nvb"
    path.write_bytes(data)
    return path


def test_a_segment_of_another_file_is_noticed(tiny_nvb: Path, tmp_path: Path) -> None:
    """Every checksum is right, and the stranger would even fit."""
    with NvbReader(tiny_nvb) as reader:
        header, segment = reader.header, reader.segment(0)
    other = tmp_path / "other.nvb"
    write_nvb(other, replace(header, file_id=bytes(16)), [segment])
    chunks = take_apart(tiny_nvb.read_bytes())
    stranger = next(c for c in take_apart(other.read_bytes()) if c.tag == b"SEGM")
    spliced = [stranger if c.tag == b"SEGM" else c for c in chunks[:-2]]
    reader = NvbReader(saved(tmp_path, with_index(spliced, None, [12])))
    with reader, pytest.raises(FormatError, match=r"file\.nvb: segment 0: .*another file"):
        reader.segment(0)


Lie = Callable[[Sequence[IndexEntry]], list[IndexEntry]]
LIES: dict[str, Lie] = {
    "no segments": lambda e: [],
    "one segment missing": lambda e: [e[0]],
    "the first missing": lambda e: [e[1]],
    "the wrong order": lambda e: [e[1], e[0]],
    "one twice": lambda e: [e[0], e[0], e[1]],
    "overlapping frames": lambda e: [e[0], replace(e[1], first_frame=6)],
    "frames left out": lambda e: [e[0], replace(e[1], first_frame=8)],
    "too many frames": lambda e: [e[0], replace(e[1], frame_count=6)],
    "too few frames": lambda e: [e[0], replace(e[1], frame_count=4)],
    "endless frames": lambda e: [e[0], replace(e[1], frame_count=1 << 61)],
    "overlapping bytes": lambda e: [e[0], replace(e[1], offset=e[1].offset - 1)],
    "a place inside a segment": lambda e: [replace(e[0], offset=e[0].offset + 1, length=e[0].length - 1), e[1]],
    "a place in the magic": lambda e: [replace(e[0], offset=0, length=e[0].length + e[0].offset), e[1]],
    "a place behind the end": lambda e: [replace(e[0], offset=1 << 61), e[1]],
    "a length too short": lambda e: [e[0], replace(e[1], length=e[1].length - 1)],
    "a length too long": lambda e: [e[0], replace(e[1], length=e[1].length + 12)],
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_lies_is_refused_on_opening(tiny_nvb_two_segments: Path, tmp_path: Path, lie: str) -> None:
    with NvbReader(tiny_nvb_two_segments) as reader:
        entries = LIES[lie](reader.index)
    chunks = take_apart(tiny_nvb_two_segments.read_bytes())[:-2]
    with pytest.raises(NvbError, match=r"file\.nvb: "):
        NvbReader(saved(tmp_path, with_index(chunks, entries, [])))


def test_an_index_that_divides_frames_otherwise_is_refused_with_its_segment(
    tiny_nvb_two_segments: Path, tmp_path: Path
) -> None:
    chunks = take_apart(tiny_nvb_two_segments.read_bytes())[:-2]
    with NvbReader(saved(tmp_path, with_index(chunks, None, [6, 6]))) as reader:
        for number in (0, 1):
            with pytest.raises(FormatError, match="disagree about its frames"):
                reader.segment(number)


def test_a_damaged_segment_costs_that_segment_only(tiny_nvb_two_segments: Path, tmp_path: Path) -> None:
    with NvbReader(tiny_nvb_two_segments) as reader:
        first = reader.index[0].offset
    original = tiny_nvb_two_segments.read_bytes()
    for at in (first, first + 5, first + 200):
        data = bytearray(original)
        data[at] ^= 0x21
        with NvbReader(saved(tmp_path, bytes(data))) as reader:
            with pytest.raises(NvbError, match="segment 0: "):
                reader.segment(0)
            assert reader.segment(1).frame_count == 5


def test_a_wrong_thumbnail_is_noticed_when_the_video_is_opened(tiny_nvb: Path, tmp_path: Path) -> None:
    with NvbReader(tiny_nvb) as reader:
        header, segment = reader.header, reader.segment(0)
    for wrong, text in ((255 - segment.thumbnail, "wrong picture"), (segment.thumbnail[1:], "another shape")):
        write_nvb(tmp_path / "wrong.nvb", header, [replace(segment, thumbnail=wrong)])
        with pytest.raises(BackendError, match=text):
            open_video(tmp_path / "wrong.nvb")


def test_weights_that_are_not_those_of_the_graph_are_noticed(tiny_nvb: Path, tmp_path: Path) -> None:
    """A writer with a bug: the integers' hash is over what it had, the shapes are the graph's."""
    with NvbReader(tiny_nvb) as reader:
        header, segment = reader.header, reader.segment(0)
    other = random_weights(tiny_graph(24, 16), 0)
    write_nvb(tmp_path / "wrong.nvb", header, [replace(segment, weights=other)])
    with NvbReader(tmp_path / "wrong.nvb") as reader, pytest.raises(NvbError, match="segment 0"):
        reader.segment(0)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotNvbError),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), NotNvbError),
        (b"\x89NVB\n\x1a\n" + bytes(99), NotNvbError),
        (b"\x89NVB\r\n\x1a\n", TruncatedError),
        (b"\x89NVB\r\n\x1a\n\0\0\x02\0", TruncatedError),
        (b"\x89NVB\r\n\x1a\n\0\0\x02\0" + bytes(40), TruncatedError),
    ],
)
def test_files_that_are_something_else(data: bytes, error: type[NvbError], tmp_path: Path) -> None:
    with pytest.raises(error, match=r"file\.nvb: "):
        NvbReader(saved(tmp_path, data))


def test_what_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.nvb", tmp_path):
        with pytest.raises(InputError, match="cannot open"):
            NvbReader(path)


def test_a_file_that_shrinks_while_it_is_open(tiny_nvb: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, tiny_nvb.read_bytes())
    with NvbReader(path) as reader:
        with open(path, "r+b") as file:
            file.truncate(reader.index[0].offset + 20)
        with pytest.raises(TruncatedError, match="shrank"):
            reader.segment(0)
