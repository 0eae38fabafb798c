"""Files that are damaged or made to harm: the outcome is a video or one of our errors, in bounded time and memory."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from golden import FOLDER, NAMES
from surgery import Chunk, put_together, take_apart, with_index

from inr_runtime import open_video
from inr_runtime.chunks import Header, encode_info, encode_ranges
from inr_runtime.errors import BackendError, InputError, NvbError, TruncatedError
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph
from inr_runtime.info import VideoInfo
from inr_runtime.limits import Limits
from inr_runtime.wire import Writer, deflate

FRAMES = {NAMES[0]: [12], NAMES[1]: [20, 5]}
SMALL = Limits(symbols=100_000, activation_bytes=1 << 24, macs_per_frame=10**8, chunk_bytes=1 << 20, audio_bytes=1)
Mutant = Callable[[bytes, random.Random], bytes]


def outcome(path: Path, data: bytes) -> str:
    """What comes of opening a file and decoding its first and last frame."""
    path.write_bytes(data)
    try:
        with open_video(path, threads=1, limits=SMALL) as video:
            video[0], video[-1]
    except BackendError as error:
        if "thumbnail" not in str(error):  # the one thing that only the engine can find out
            raise
        return "WrongPicture"
    except InputError as error:
        return type(error).__name__ if str(path) in str(error) else f"unnamed: {error}"
    return "decoded"


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "cut.nvb"
    path.write_bytes((FOLDER / NAMES[1]).read_bytes())
    with open(path, "r+b") as file:
        for size in reversed(range(path.stat().st_size)):
            file.truncate(size)
            with pytest.raises(NvbError, match=r"cut\.nvb: ") as caught:
                NvbReader(path)
            assert size < 8 or isinstance(caught.value, TruncatedError)


def flipped_bits(data: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 8])):
        mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
    return bytes(mutant)


def bytes_replaced(data: bytes, rng: random.Random) -> bytes:
    """Some replaced, dropped or inserted."""
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, count = rng.randrange(len(mutant)), rng.randrange(1, 9)
        mutant[at : at + rng.choice([0, count, count])] = rng.choice([b"", rng.randbytes(count), b"\xff" * count])
    return bytes(mutant)


def honest(chunks: list[Chunk], frames: list[int]) -> bytes:
    return with_index([c for c in chunks if c.tag not in (b"INDX", b"IEND")], None, frames)


@pytest.mark.parametrize("mutate", [flipped_bits, bytes_replaced])
@pytest.mark.parametrize("name", NAMES)
def test_altered_bytes_are_noticed(name: str, mutate: Mutant, tmp_path: Path) -> None:
    """Checksums cover every byte but the minor version, so whatever decodes is untouched in all that counts."""
    original, rng = (FOLDER / name).read_bytes(), random.Random(name + mutate.__name__)
    seen = Counter()
    for _ in range(250):
        mutant = mutate(original, rng)
        seen[outcome(tmp_path / "mutant.nvb", mutant)] += mutant[:10] + mutant[12:] != original[:10] + original[12:]
    assert seen["decoded"] == seen["WrongPicture"] == 0
    assert sum(seen.values()) > 200
    assert all(name.isalpha() for name in seen)


@pytest.mark.parametrize("tag", [b"INFO", b"TIME", b"GRPH", b"ACTR", b"meta", b"SEGM", b"INDX"])
def test_altered_bytes_under_right_checksums_do_no_harm(tag: bytes, tmp_path: Path) -> None:
    """As a stranger would make them, who can compute a CRC too."""
    rng, seen = random.Random(tag), Counter()
    name = NAMES[1] if tag == b"TIME" else NAMES[0] if tag in (b"ACTR", b"meta") else None
    for _ in range(80):
        chosen = name or rng.choice(NAMES)
        chunks = take_apart((FOLDER / chosen).read_bytes())
        at = rng.choice([i for i, chunk in enumerate(chunks) if chunk.tag == tag])
        chunks[at] = Chunk(tag, bytes_replaced(chunks[at].payload, rng))
        mutant = put_together(chunks) if tag == b"INDX" else honest(chunks, FRAMES[chosen])
        seen[outcome(tmp_path / "mutant.nvb", mutant)] += 1
    assert sum(seen.values()) - seen["decoded"] > 20
    assert all(name.isalpha() for name in seen)


def unpacked(payload: bytes) -> tuple[bytes, bytes]:
    """The fields before the one graph of a GRPH chunk, without its digest, and the graph."""
    start = payload.index(b"\x78\xda")
    return payload[:3], zlib.decompress(payload[start:])


def test_altered_graphs_under_right_checksums_and_digests_do_no_harm(tmp_path: Path) -> None:
    """Deeper than compression and hashes: what is still a graph of the dialect must also run."""
    chunks = take_apart((FOLDER / NAMES[1]).read_bytes())
    at = next(i for i, chunk in enumerate(chunks) if chunk.tag == b"GRPH")
    head, original = unpacked(chunks[at].payload)
    old = CanonicalGraph.from_bytes(original).digest
    rng, seen = random.Random(5), Counter()
    for _ in range(600):
        data = bytearray(original)
        data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), rng.randrange(16)])
        try:
            digest = CanonicalGraph.from_bytes(bytes(data), SMALL).digest
        except NvbError as error:
            seen[type(error).__name__] += 1
            continue
        payload = Writer().raw(head).raw(digest).blob(deflate(bytes(data))).bytes_()
        mutant = [Chunk(c.tag, c.payload.replace(old, digest)) for c in chunks]
        mutant[at] = Chunk(b"GRPH", payload)
        seen[outcome(tmp_path / "mutant.nvb", honest(mutant, [20, 5]))] += 1
    assert seen["GraphError"] > 300
    assert seen["decoded"] > 10


def altered(folder: Path, name: str, tag: bytes, payload: bytes) -> Path:
    """A golden file with the first chunk of a tag replaced, under right checksums."""
    chunks = take_apart((FOLDER / name).read_bytes())
    at = next(i for i, chunk in enumerate(chunks) if chunk.tag == tag)
    chunks[at] = Chunk(tag, payload)
    path = folder / "altered.nvb"
    path.write_bytes(honest(chunks, FRAMES[name]))
    return path


def info(**changes: object) -> bytes:
    header = Header(VideoInfo(48, 32, 12), "m", bytes(16))
    return encode_info(replace(header, **changes))  # type: ignore[arg-type]


def times(first: int, steps: Iterable[int]) -> bytes:
    writer = Writer().signed(first)
    for step in steps:
        writer.varint(step)
    return Writer().varint(1).varint(1000).raw(deflate(writer.bytes_())).bytes_()


HOSTILE: dict[str, tuple[str, bytes, bytes, str]] = {
    "no width": (NAMES[0], b"INFO", info(info=VideoInfo(0, 32, 12)), "positive size"),
    "no frames": (NAMES[0], b"INFO", info(info=VideoInfo(48, 32, 0)), "positive size"),
    "a huge picture": (NAMES[0], b"INFO", info(info=VideoInfo(1 << 60, 1 << 60, 12)), "pixels"),
    "endless frames": (NAMES[0], b"INFO", info(info=VideoInfo(48, 32, 1 << 60)), "frames"),
    "a name that clears the terminal": (NAMES[0], b"INFO", info(model="\x1b[2J"), "control characters"),
    "a name without end": (NAMES[0], b"INFO", info(model="m" * 300), "name_bytes"),
    "another size than the graph's": (NAMES[0], b"INFO", info(info=VideoInfo(32, 48, 12)), "the header says otherwise"),
    "too few times": (NAMES[1], b"TIME", times(0, [1] * 23), "25 times|expected 1 more"),
    "too many times": (NAMES[1], b"TIME", times(0, [1] * 25), "too many"),
    "times standing still": (NAMES[1], b"TIME", times(0, [0] * 24), "share a time"),
    "a leap in time": (NAMES[1], b"TIME", times(0, [1 << 60] * 24), "above"),
    "a bomb of times": (NAMES[1], b"TIME", times(0, [1] * 1_000_000), "cannot hold 25 times"),
    "no graph": (NAMES[0], b"GRPH", b"\0", "no graph"),
    "many graphs": (NAMES[0], b"GRPH", Writer().varint(1000).bytes_(), "graphs"),
    "a graph that is a bomb": (
        NAMES[0],
        b"GRPH",
        Writer().varint(1).raw(bytes(18)).blob(deflate(bytes(50_000_000))).bytes_(),
        "graph_bytes",
    ),
    "a range of nothing": (NAMES[0], b"ACTR", encode_ranges(0, {"e0": (float("nan"), 1.0)}), "not ordered"),
    "a range turned around": (NAMES[0], b"ACTR", encode_ranges(0, {"e0": (1.0, -1.0)}), "not ordered"),
    "an endless range": (NAMES[0], b"ACTR", encode_ranges(0, {"e0": (0.0, float("inf"))}), "not finite"),
    "a range of a weight": (NAMES[0], b"ACTR", encode_ranges(0, {"w0": (0.0, 1.0)}), "'w0' is unknown"),
    "a range of nowhere": (NAMES[0], b"ACTR", encode_ranges(0, {"e99": (0.0, 1.0)}), "'e99' is unknown"),
    "ranges of another graph": (NAMES[0], b"ACTR", encode_ranges(1, {}), "graph 1 does not exist"),
    "notes that are none": (NAMES[0], b"meta", deflate(b"not JSON"), "not JSON"),
    "notes as a list": (NAMES[0], b"meta", deflate(b"[1]"), "object of texts"),
    "notes of numbers": (NAMES[0], b"meta", deflate(b'{"a": 1}'), "object of texts"),
    "notes in a deep pit": (NAMES[0], b"meta", deflate(b"[" * 60_000), "not JSON"),
    "notes that cannot be printed": (NAMES[0], b"meta", deflate(b'{"a": "\\ud800"}'), "control characters"),
    "notes that clear the terminal": (NAMES[0], b"meta", deflate(b'{"a": "\\u001b[2J"}'), "control characters"),
    "notes without end": (NAMES[0], b"meta", deflate(bytes(70_000)), "text_bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_is_refused_for(name: str, tmp_path: Path) -> None:
    source, tag, payload, reason = HOSTILE[name]
    path = altered(tmp_path, source, tag, payload)
    tracemalloc.start()
    try:
        with pytest.raises(NvbError, match=reason) as caught:
            NvbReader(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
