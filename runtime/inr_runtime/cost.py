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


def workspace_bytes(op: str, shapes: Sequence[Shape], output: Shape) -> int:
    """Scratch memory of one node beside its inputs and its result, as engines unfold pictures for a convolution.

    Measured with ONNX Runtime: int8 convolutions write one byte (or one pointer, where kernels are per channel) for
    every pixel and number of the kernel, transposed ones a float. shapes: of the node's inputs.
    """
    if op == "Conv" and math.prod(shapes[1][2:]) > 1:
        return math.prod(output[2:]) * math.prod(shapes[1][2:]) * max(shapes[1][1], 8)
    if op == "ConvTranspose":
        return 4 * math.prod(shapes[0][2:]) * math.prod(shapes[1][1:])
    return 0


def peak_bytes(
    inputs: Iterable[str],
    nodes: Iterable[tuple[Sequence[str], str]],
    sizes: Mapping[str, int],
    work: Mapping[str, int] | None = None,
) -> int:
    """Most bytes occupied at once by the inputs and by those results that are still to be read, nodes running in order.

    nodes: what each reads, and its result. sizes: bytes by name, of inputs and results. work: bytes needed beside
    them while a result is made, by its name.
    """
    work = work or {}
    nodes = list(nodes)
    last_reader = {name: i for i, (reads, _) in enumerate(nodes) for name in reads}
    ended: dict[int, int] = {}
    for _, result in nodes:
        last = last_reader.get(result, len(nodes))
        ended[last] = ended.get(last, 0) + sizes[result]
    alive = peak = sum(sizes[name] for name in inputs)
    for i, (_, result) in enumerate(nodes):
        alive += sizes[result]
        peak = max(peak, alive + work.get(result, 0))
        alive -= ended.get(i, 0)
    return peak
