"""What running a graph costs, known before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from inr_runtime.ops import Shape


def macs_of(op: str, shapes: Sequence[Shape], output: Shape) -> int:
    """Multiply-accumulates of one node; 0 for everything but convolutions. shapes: of its inputs."""
    if op == "Conv":
        return math.prod(output) * math.prod(shapes[1][1:])
    if op == "ConvTranspose":
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    return 0


def peak_bytes(inputs: Iterable[str], nodes: Iterable[tuple[Sequence[str], str]], sizes: Mapping[str, int]) -> int:
    """Most bytes occupied at once by the inputs and by those results that are still to be read, nodes running in order.

    nodes: what each reads, and its result. sizes: bytes by name, of inputs and results.
    """
    nodes = list(nodes)
    last_reader = {name: i for i, (reads, _) in enumerate(nodes) for name in reads}
    ended: dict[int, int] = {}
    for _, result in nodes:
        last = last_reader.get(result, len(nodes))
        ended[last] = ended.get(last, 0) + sizes[result]
    alive = peak = sum(sizes[name] for name in inputs)
    for i, (_, result) in enumerate(nodes):
        alive += sizes[result]
        peak = max(peak, alive)
        alive -= ended.get(i, 0)
    return peak
