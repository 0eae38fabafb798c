"""Chunks in the wrong place: of another file, of an older one, or hidden by a bit of their name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb
from golden import FOLDER, NAMES, ODD_INFO
from surgery import HEAD, Chunk, put_together, take_apart, with_index

from inr_runtime import open_video
from inr_runtime.chunks import encode_times
from inr_runtime.errors import ChecksumError, FormatError, NvbError, VersionError
from inr_runtime.format import NvbReader, write_nvb
from inr_runtime.graph import CanonicalGraph
from inr_runtime.segment import encode_segment


def chunk_named(path: Path, tag: bytes) -> Chunk:
    return next(chunk for chunk in take_apart(path.read_bytes()) if chunk.tag == tag)


def swapped(path: Path, stranger: Chunk, copy: Path) -> Path:
    """A copy in which one chunk is another file's, of equal length: index and checksums are as right as they were."""
    chunks = [stranger if chunk.tag == stranger.tag else chunk for chunk in take_apart(path.read_bytes())]
    copy.write_bytes(put_together(chunks))
    assert copy.stat().st_size == path.stat().st_size
    return copy


def test_ranges_of_another_file_are_noticed(tmp_path: Path) -> None:
    """They would fit, their checksum is right, and int8 would show other colours."""
    path, other = (make_nvb(tmp_path / f"{seed}.nvb", seed=seed) for seed in (0, 1))
    bad = swapped(path, chunk_named(other, b"ACTR"), tmp_path / "bad.nvb")
    with pytest.raises(ChecksumError, match=r"bad\.nvb: the chunks before the segments are not those"):
        NvbReader(bad)


def test_times_of_another_file_are_noticed(tmp_path: Path) -> None:
    path = FOLDER / NAMES[1]
    assert ODD_INFO.pts is not None
    later = tuple(t + 1 for t in ODD_INFO.pts)
    bad = swapped(path, Chunk(b"TIME", encode_times(later, ODD_INFO.time_base)), tmp_path / "bad.nvb")
    with pytest.raises(ChecksumError, match="chunks before the segments"):
        NvbReader(bad)


def test_the_whole_header_of_another_file_is_noticed(tmp_path: Path) -> None:
    """Header and index of one, segments of the other: then the segments say that they are strangers."""
    path = make_nvb(tmp_path / "a.nvb")
    with NvbReader(path) as reader:
        write_nvb(tmp_path / "b.nvb", replace(reader.header, file_id=bytes(16)), [reader.segment(0)])
    chunks = take_apart(path.read_bytes())[:-2]
    chunks[-1] = chunk_named(tmp_path / "b.nvb", b"SEGM")
    (tmp_path / "bad.nvb").write_bytes(with_index(chunks, None, [12]))
    with pytest.raises(FormatError, match=r"segment 0: .*another file"):
        open_video(tmp_path / "bad.nvb")


def test_a_segment_made_for_another_graph_is_noticed(tmp_path: Path) -> None:
    """The file's id is right, the graph's digest is not."""
    path = make_nvb(tmp_path / "a.nvb")
    with NvbReader(path) as reader:
        header, segment = reader.header, reader.segment(0)
    model = header.graphs[0].to_model()
    model.graph.node[1].attribute[0].f = 0.5
    other = replace(header, graphs=(CanonicalGraph.from_model(model),))
    chunks = take_apart(path.read_bytes())[:-2]
    chunks[-1] = Chunk(b"SEGM", encode_segment(segment, other))
    (tmp_path / "bad.nvb").write_bytes(with_index(chunks, None, [12]))
    with pytest.raises(FormatError, match=r"segment 0: .*another file"):
        open_video(tmp_path / "bad.nvb")


def read_completely(path: Path) -> None:
    with NvbReader(path) as reader:
        for number in range(len(reader.index)):
            reader.segment(number)


@pytest.mark.parametrize("name", NAMES)
def test_every_bit_of_every_chunks_head_counts(name: str, tmp_path: Path) -> None:
    """One bit makes ACTR of int8 files aCTR, which a reader may skip, and would then play in float."""
    original = (FOLDER / name).read_bytes()
    path, position = tmp_path / "flipped.nvb", HEAD
    for chunk in take_apart(original):
        end = position + len(chunk.whole)
        for at in (*range(position, position + 8), *range(end - 4, end)):
            for bit in range(8):
                data = bytearray(original)
                data[at] ^= 1 << bit
                path.write_bytes(data)
                with pytest.raises(NvbError, match=r"flipped\.nvb: "):
                    read_completely(path)
        position = end


def test_a_file_of_an_older_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    chunks = take_apart((FOLDER / NAMES[0]).read_bytes())
    (tmp_path / "old.nvb").write_bytes(put_together(chunks, (0, 1)))
    with pytest.raises(VersionError, match=r"old\.nvb: format version 0\.1 is no longer read; export"):
        NvbReader(tmp_path / "old.nvb")


def test_what_may_be_skipped_behind_the_segments_is_not_read(tmp_path: Path) -> None:
    """Sound of any size costs nothing when a video is opened, and damage there costs no picture."""
    path = make_nvb(tmp_path / "good.nvb")
    chunks = [*take_apart(path.read_bytes())[:-2], Chunk(b"audo", bytes(5000))]
    data = bytearray(with_index(chunks, None, [12]))
    data[data.index(b"audo") + 100] ^= 1
    (tmp_path / "sound.nvb").write_bytes(data)
    with open_video(tmp_path / "sound.nvb") as video, open_video(path) as original:
        assert np.array_equal(video[:], original[:])


@pytest.mark.parametrize("count", [1_000_000, 1 << 40, 1 << 62])
def test_an_index_of_absurdly_many_segments_is_refused(count: int, tmp_path: Path) -> None:
    from surgery import header_hash

    from inr_runtime.wire import Writer

    chunks = take_apart((FOLDER / NAMES[0]).read_bytes())
    index = Writer().raw(header_hash(chunks)).varint(count).bytes_()
    position = HEAD + sum(len(chunk.whole) for chunk in chunks[:-2])
    end = Chunk(b"IEND", position.to_bytes(8, "little"))
    (tmp_path / "many.nvb").write_bytes(put_together([*chunks[:-2], Chunk(b"INDX", index), end]))
    with pytest.raises(NvbError, match=r"many\.nvb: INDX: .*\(segments\)"):
        NvbReader(tmp_path / "many.nvb")
