"""Mutations of .nvb files: pure functions of a random generator and of the good files.

`KINDS` names them all. A mutant says whether any checksum or digest in it was made anew, for the rule differs.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.fuzz import resign
from tests.fuzz.seeds import Seed, any_seed, seeds
from tests.surgery import HEAD, Chunk, header_hash, put_together, with_index

from inr_runtime.chunks import IndexEntry, encode_index
from inr_runtime.wire import MAX_VARINT, Writer

INTERESTING = (0, 1, 2, 16, 127, 128, 255, 256, 65535, 1 << 20, (1 << 32) - 1, 1 << 40, MAX_VARINT)
Altered = tuple[Seed, bytes]
Mutation = Callable[[random.Random], Altered]


@dataclass(frozen=True, eq=False)
class Mutant:
    """An altered file. remade: whether a checksum or digest was made anew; seed: the file it was.

    A few mutations arrive at another good file, of which enough was mixed in; that one is then the seed.
    """

    seed: Seed
    data: bytes
    remade: bool


def mutant(kind: str, seed: int, number: int) -> Mutant:
    """The mutant of that kind and number; the same for ever while the good files stay the same."""
    remade, mutation = KINDS[kind]
    source, data = mutation(random.Random(f"{seed} {kind} {number}"))
    arrived = [other for other in seeds() if other.data == data]
    return Mutant(arrived[0] if arrived else source, data, remade)


def flip_bits(rng: random.Random) -> Altered:
    """One bit mostly, sometimes eight."""
    source = any_seed(rng)
    data = bytearray(source.data)
    for _ in range(rng.choice([1, 1, 1, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return source, bytes(data)


def flip_bits_of_heads(rng: random.Random) -> Altered:
    """One bit of the magic, the version, or of the tag, length or checksum of a chunk."""
    source = any_seed(rng)
    places, position = list(range(HEAD)), HEAD
    for chunk in source.chunks:
        end = position + len(chunk.whole)
        places += [*range(position, position + 8), *range(end - 4, end)]
        position = end
    data = bytearray(source.data)
    data[rng.choice(places)] ^= 1 << rng.randrange(8)
    return source, bytes(data)


def replace_bytes(rng: random.Random) -> Altered:
    source = any_seed(rng)
    return source, _edited(source.data, rng, "replace")


def insert_bytes(rng: random.Random) -> Altered:
    source = any_seed(rng)
    return source, _edited(source.data, rng, "insert")


def delete_bytes(rng: random.Random) -> Altered:
    source = any_seed(rng)
    return source, _edited(source.data, rng, "delete")


def _edited(data: bytes, rng: random.Random, how: str) -> bytes:
    mutated = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, count = rng.randrange(len(mutated) + 1), rng.choice([1, 1, 2, 4, 8, 64])
        new = b"" if how == "delete" else rng.choice([rng.randbytes(count), bytes(count), b"\xff" * count])
        mutated[at : at + (0 if how == "insert" else count)] = new
    return bytes(mutated)


def cut_off(rng: random.Random) -> Altered:
    """The end missing, or the beginning, or something appended."""
    source = any_seed(rng)
    at = rng.randrange(len(source.data))
    return source, rng.choice([source.data[:at], source.data[:at], source.data[at:], source.data + source.data[at:]])


def mix_blocks(rng: random.Random) -> Altered:
    """Some bytes as they stand in another file, as a disk or a download may mix them."""
    source, donor = rng.sample(seeds(), 2)
    start = rng.randrange(len(source.data))
    end = start + rng.choice([16, 64, 512, 4096])
    return source, source.data[:start] + donor.data[start:end] + source.data[end:]


def splice_chunks(rng: random.Random) -> Altered:
    """Whole chunks of another file in the place of those with the same tag; the index is not made anew."""
    source, donor = _relatives(rng)
    return source, put_together(_spliced(list(source.chunks), donor, rng))


def rearrange_chunks(rng: random.Random) -> Altered:
    """Chunks dropped, doubled or moved; the index is not made anew."""
    source = any_seed(rng)
    return source, put_together(_rearranged(list(source.chunks), rng))


def change_lengths(rng: random.Random) -> Altered:
    """The length of a chunk, and nothing else."""
    source = any_seed(rng)
    position, data = HEAD, bytearray(source.data)
    for chunk in source.chunks[: rng.randrange(len(source.chunks))]:
        position += len(chunk.whole)
    (length,) = struct.unpack_from("<I", data, position + 4)
    new = rng.choice([length + 1, length - 1, length + 12, *INTERESTING]) & 0xFFFFFFFF
    struct.pack_into("<I", data, position + 4, new)
    return source, bytes(data)


def splice_chunks_indexed(rng: random.Random) -> Altered:
    """As `splice_chunks`, under an index made anew."""
    source, donor = _relatives(rng)
    return source, source.indexed(_spliced(source.body, donor, rng))


def rearrange_chunks_indexed(rng: random.Random) -> Altered:
    """As `rearrange_chunks`, under an index made anew, of as many segments as are left."""
    source = any_seed(rng)
    return source, source.indexed(_rearranged(source.body, rng))


def _relatives(rng: random.Random) -> tuple[Seed, Seed]:
    twins = [seed for seed in seeds() if seed.name.startswith("twin")]
    source, donor = rng.sample(twins if rng.random() < 0.4 else seeds(), 2)
    return source, donor


def _spliced(chunks: list[Chunk], donor: Seed, rng: random.Random) -> list[Chunk]:
    tags = sorted({c.tag for c in chunks} & {c.tag for c in donor.chunks})
    for tag in rng.sample(tags, rng.choice([1, 1, 2, min(3, len(tags))])):
        strangers = [c for c in donor.chunks if c.tag == tag]
        for i, chunk in enumerate(chunks):
            if chunk.tag == tag and rng.random() < 0.7:
                chunks[i] = rng.choice(strangers)
    return chunks


def _rearranged(chunks: list[Chunk], rng: random.Random) -> list[Chunk]:
    for _ in range(rng.choice([1, 1, 2])):
        at, to = rng.randrange(len(chunks)), rng.randrange(len(chunks))
        how = rng.randrange(3)
        if how == 0 and len(chunks) > 1:
            chunks.pop(at)
        elif how == 1:
            chunks.insert(to, chunks[at])
        else:
            chunks[at], chunks[to] = chunks[to], chunks[at]
        if len(chunks) == 1:
            break
    return chunks


def change_payloads(rng: random.Random) -> Altered:
    """Bytes of a chunk's payload, under right checksums and a true index."""
    source = any_seed(rng)
    chunks = source.body
    at = rng.randrange(len(chunks))
    how = rng.choice(["replace", "replace", "insert", "delete"])
    chunks[at] = Chunk(chunks[at].tag, _edited(chunks[at].payload, rng, how))
    return source, source.indexed(chunks)


def change_numbers(rng: random.Random) -> Altered:
    """A length or another number near the beginning of a payload, where numbers stand, under right checksums."""
    source = any_seed(rng)
    chunks = source.body
    at = rng.randrange(len(chunks))
    payload = chunks[at].payload
    start = min(rng.randrange(len(payload)), rng.randrange(len(payload)))
    end = start
    while end < len(payload) - 1 and payload[end] & 0x80:
        end += 1
    number = Writer().varint(rng.choice(INTERESTING)).bytes_()
    chunks[at] = Chunk(chunks[at].tag, payload[:start] + number + payload[end + 1 :])
    return source, source.indexed(chunks)


def tell_lies_in_the_index(rng: random.Random) -> Altered:
    """Entries altered, dropped, doubled or many, the place of the index too, under right checksums."""
    source = any_seed(rng)
    entries = list(source.index)
    for _ in range(rng.choice([1, 1, 2])):
        at = rng.randrange(len(entries))
        field = rng.choice(["offset", "length", "first_frame", "frame_count", "preroll"])
        old = getattr(entries[at], field)
        entries[at] = replace(
            entries[at], **{field: rng.choice([min(old + 1, MAX_VARINT), max(0, old - 1), *INTERESTING])}
        )
        if rng.random() < 0.3:
            entries = rng.choice([entries[1:] or entries, [*entries, entries[at]], entries * 99, entries[::-1]])
    if rng.random() < 0.7:
        return source, with_index(source.body, entries, [])
    return source, _misplaced(source, entries, rng)


def _misplaced(source: Seed, entries: list[IndexEntry], rng: random.Random) -> bytes:
    """The index says what it should, or says more than it holds, or its place is told wrongly."""
    payload = encode_index(rng.choice([entries, source.index]), header_hash(source.body))
    if rng.random() < 0.5:
        payload = payload[:16] + Writer().varint(rng.choice(INTERESTING)).bytes_() + payload[17:]
    position = HEAD + sum(len(chunk.whole) for chunk in source.body)
    place = rng.choice([position, position + 1, HEAD, *INTERESTING])
    return put_together([*source.body, Chunk(b"INDX", payload), Chunk(b"IEND", struct.pack("<Q", place))])


KINDS: dict[str, tuple[bool, Mutation]] = {
    "bits flipped": (False, flip_bits),
    "bits of chunk heads flipped": (False, flip_bits_of_heads),
    "bytes replaced": (False, replace_bytes),
    "bytes inserted": (False, insert_bytes),
    "bytes deleted": (False, delete_bytes),
    "cut off or doubled": (False, cut_off),
    "blocks of another file": (False, mix_blocks),
    "chunks of another file": (False, splice_chunks),
    "chunks dropped, doubled, moved": (False, rearrange_chunks),
    "chunk lengths changed": (False, change_lengths),
    "chunks of another file, new index": (True, splice_chunks_indexed),
    "chunks dropped, doubled, moved, new index": (True, rearrange_chunks_indexed),
    "payload bytes changed, new checksums": (True, change_payloads),
    "numbers in payloads changed, new checksums": (True, change_numbers),
    "index lies, new checksums": (True, tell_lies_in_the_index),
    **{name: (True, mutation) for name, mutation in resign.KINDS.items()},
}
"""Every kind of mutation by name: whether it makes a checksum or digest anew, and the mutation."""
