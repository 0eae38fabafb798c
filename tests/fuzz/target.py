"""Fuzzing that is guided by coverage, with atheris (in the `dev` extra; Linux on x86-64).

    python -m tests.fuzz.target tests/fuzz/corpus -max_total_time=60

Options are libFuzzer's: `-max_total_time=SECONDS`, `-runs=N`, `-seed=N`, `-jobs=2 -workers=2`. New files that reach new
code, and the files that break the rule (`crash-*`, `timeout-*`, `oom-*`), go to `build/fuzz`; the folder of the
repository is read only. `python -m tests.fuzz.target build/fuzz/crash-XYZ` runs one file again; a file that broke the
rule becomes a test in tests/runtime and stays in the corpus where it is small.

atheris itself keeps some 10 kB a run (the reader does not): beyond 300,000 runs
give `-rss_limit_mb=0`, or `-fork=1` for processes that are renewed.

The mutator knows the format: it keeps the magic and puts whole files together again, half of them with right checksums
and a true index, so that it gets past them; graphs are edited under their compression and signed again. The rule: every
file is refused with an error of ours that names it, or plays frames of the declared size, and what plays has right
checksums.
"""

from __future__ import annotations

import random
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["inr_runtime"]):
    import inr_runtime.backends.ort
    import inr_runtime.decoder
    import inr_runtime.format  # noqa: F401

from tests.fuzz.graphs import edited
from tests.fuzz.judge import ALLOWED, DECODED, LIMITS, MOST_SEGMENTS, judge
from tests.fuzz.seeds import signed_graph
from tests.surgery import HEAD, Chunk, put_together, with_index

from inr_runtime.errors import NvbError
from inr_runtime.format import MAGIC
from inr_runtime.graph import CanonicalGraph
from inr_runtime.wire import Reader, deflate, inflate

SCRATCH = Path("build/fuzz")
DEFAULTS = {"-max_len": "6000", "-timeout": "10", "-rss_limit_mb": "4096", "-len_control": "0"}
_path = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "fuzz.nvb"


def run_one(data: bytes) -> None:
    """Raise `AssertionError` where a file breaks the rule."""
    _path.write_bytes(data)
    verdict = judge(_path, None)
    assert verdict.outcome in ALLOWED[True], f"{verdict.outcome}: {verdict.detail}"
    assert verdict.outcome != DECODED or checksums_are_right(data), "it plays although a checksum is wrong"


def checksums_are_right(data: bytes) -> bool:
    """Whether every chunk up to the last segment that was decoded carries its CRC; computed without the runtime."""
    position, segments = HEAD, 0
    last = data.rfind(b"SEGM")
    while position <= last and segments < MOST_SEGMENTS - 1:
        (length,) = struct.unpack_from("<I", data, position + 4)
        end = position + 8 + length
        if len(data) < end + 4 or struct.unpack_from("<I", data, end) != (zlib.crc32(data[position:end]),):
            return False
        segments += data[position : position + 4] == b"SEGM"
        position = end + 4
    return True


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutation of a whole file: raw, or of one part, put together honestly or not."""
    rng = random.Random(seed)
    chunks = chunks_of(data)
    if not chunks or rng.random() < 0.15:
        return data[:HEAD] + atheris.Mutate(data[HEAD:], max(1, max_size - HEAD))
    if rng.random() < 0.15:
        _rearrange(chunks, rng)
    else:
        _mutate_one(chunks, rng, max_size)
    whole = _whole(chunks, rng)
    return whole if len(whole) <= max_size else data


def cross(data: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """Some chunks of one file among those of another."""
    rng = random.Random(seed)
    chunks, strangers = chunks_of(data), chunks_of(other)
    for stranger in rng.sample(strangers, min(len(strangers), rng.choice([1, 1, 2]))):
        same = [i for i, chunk in enumerate(chunks) if chunk.tag == stranger.tag]
        if same:
            chunks[rng.choice(same)] = stranger
    whole = _whole(chunks, rng)
    return whole if len(whole) <= max_size else data


def _whole(chunks: list[Chunk], rng: random.Random) -> bytes:
    """Half of the time under a true index; else under the old one, or with a bit that is wrong."""
    if rng.random() < 0.5:
        body = [c for c in chunks if c.tag not in (b"INDX", b"IEND")]
        return with_index(body, None, [_frames(c) for c in body if c.tag == b"SEGM"])
    whole = bytearray(put_together(chunks))
    if rng.random() < 0.5:
        whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return bytes(whole)


def chunks_of(data: bytes) -> list[Chunk]:
    """The chunks of a file that may be cut off or worse, up to where they make no sense."""
    chunks: list[Chunk] = []
    position = HEAD
    while data.startswith(MAGIC) and position + 12 <= len(data):
        (length,) = struct.unpack_from("<I", data, position + 4)
        if position + 12 + length > len(data):
            break
        chunks.append(Chunk(data[position : position + 4], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def _frames(segment: Chunk) -> int:
    """What a segment says itself, so that the index is true of it."""
    reader = Reader(segment.payload, "fuzz")
    try:
        return [reader.varint() for _ in range(3)][2] or 1
    except NvbError:
        return 1


def _rearrange(chunks: list[Chunk], rng: random.Random) -> None:
    at, to = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    if rng.random() < 0.5:
        chunks[at], chunks[to] = chunks[to], chunks[at]
    else:
        chunks.insert(to, chunks[at])


def _mutate_one(chunks: list[Chunk], rng: random.Random, max_size: int) -> None:
    at = rng.randrange(len(chunks))
    tag, payload = chunks[at].tag, chunks[at].payload
    if tag == b"GRPH" and rng.random() < 0.8:
        _mutate_graph(chunks, at, rng)
    elif tag in (b"TIME", b"meta") and rng.random() < 0.7 and b"\x78\xda" in payload:
        start = payload.index(b"\x78\xda") - 1
        chunks[at] = Chunk(tag, payload[:start] + _packed(payload[start:], max_size))
    else:
        # Segments begin with their file's names; what follows is where the fields are.
        start = min(len(payload), rng.choice([0, 51, 51])) if tag == b"SEGM" else 0
        chunks[at] = Chunk(tag, payload[:start] + atheris.Mutate(payload[start:], max(1, max_size - start)))


def _packed(data: bytes, max_size: int) -> bytes:
    try:
        plain = inflate(data, "chunk_bytes", LIMITS, "fuzz")
    except NvbError:
        return data
    return deflate(atheris.Mutate(plain, max_size))


def _mutate_graph(chunks: list[Chunk], at: int, rng: random.Random) -> None:
    """Bytes or fields of the graph, under the digest that the reader will compute."""
    payload = chunks[at].payload
    try:
        data = inflate(Reader(payload[19:], "fuzz").blob(len(payload)), "graph_bytes", LIMITS, "fuzz")
        graph = CanonicalGraph.from_bytes(data, LIMITS)
        data = edited(graph, rng) if rng.random() < 0.6 else atheris.Mutate(data, 1 << 14)
    except NvbError:
        return
    chunks[:] = signed_graph(chunks, graph.digest, data)


def main() -> None:
    """Run libFuzzer over this module; never returns."""
    options = [a for a in sys.argv[1:] if a.startswith("-")]
    inputs = [a for a in sys.argv[1:] if not a.startswith("-")]
    SCRATCH.mkdir(parents=True, exist_ok=True)
    options += [f"{name}={value}" for name, value in DEFAULTS.items() if not any(o.startswith(name) for o in options)]
    options += [f"-artifact_prefix={SCRATCH}/"]
    # The first folder is where libFuzzer writes what it finds.
    folders = [str(SCRATCH / "found"), *inputs] if all(Path(name).is_dir() for name in inputs) else inputs
    (SCRATCH / "found").mkdir(exist_ok=True)
    atheris.Setup([sys.argv[0], *options, *folders], run_one, custom_mutator=mutate, custom_crossover=cross)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
