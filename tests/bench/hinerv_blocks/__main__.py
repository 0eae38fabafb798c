"""Ways to compute the parts of a HiNeRV on a CPU: `python -m tests.bench.hinerv_blocks [--record]`.

block:    depthwise 3x3 ─► norm over channels ─► 1x1 ─► GELU ─► 1x1 ─► + x     norms and layouts
upscale:  bilinear x 2                                                          operators
pattern:  + one s x s tile over the whole map                                   views and copies
network:  a preset, in PyTorch and as exported
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from tests.bench.record import write_results
from torch import Tensor
from torch.nn import functional as F

from inr_runtime.backends import open_backend
from inr_runtime.int8plan import plan_int8
from inr_runtime.lower import CPU_TARGETS, TARGETS, lower
from inr_train.bits import Bits
from inr_train.models import HiNeRV
from inr_train.models.hinerv_parts import EPSILON, add_pattern, channel_norm
from inr_train.models.hinerv_patches import interpolate
from inr_train.presets import PRESETS
from inr_train.quantization import quantize_weights
from inr_train.trace import trace

PROTOCOL = (
    "One thread, best of {runs} runs in one process. Forward and forward + backward of one part at the sizes of "
    "hinerv-bunny-xxs for 320x180, in PyTorch with autocast for bf16; `network` is that preset, random weights, its "
    "training step, and its exported graph on ONNX Runtime."
)
RUNS = 7
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}
Part = Callable[[Tensor], Tensor]


def milliseconds(run: Callable[[], object]) -> float:
    """Return the least wall time of some runs."""
    times = []
    for _ in range(RUNS + 1):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return round(1e3 * min(times[1:]), 2)


def blocks(width: int) -> dict[str, Part]:
    """Return forms of the block."""
    shapes = ((width, 1, 3, 3), (4 * width, width, 1, 1), (width, 4 * width, 1, 1))
    kernels = [(0.1 * torch.randn(shape)).requires_grad_() for shape in shapes]

    def by_hand(x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + EPSILON)

    def block(norm: Part) -> Part:
        def run(x: Tensor) -> Tensor:
            y = norm(F.conv2d(x, kernels[0], padding=1, groups=width))
            return x + F.conv2d(F.gelu(F.conv2d(y, kernels[1])), kernels[2])

        return run

    def folded(x: Tensor) -> Tensor:
        y = F.conv2d(x, kernels[0], padding=1, groups=width)
        variance = y.square().mean(1, keepdim=True) - y.mean(1, keepdim=True).square()
        y = F.conv2d(y, kernels[1] - kernels[1].mean(1, keepdim=True)) * torch.rsqrt(variance + EPSILON)
        return x + F.conv2d(F.gelu(y), kernels[2])

    def linear(x: Tensor) -> Tensor:
        y = F.conv2d(x, kernels[0], padding=1, groups=width).permute(0, 2, 3, 1)
        y = F.linear(F.layer_norm(y, (width,), eps=EPSILON), kernels[1][:, :, 0, 0])
        return x + F.linear(F.gelu(y), kernels[2][:, :, 0, 0]).permute(0, 3, 1, 2)

    return {
        "block, layer_norm of a view": block(channel_norm),
        "block, norm by mean and variance": block(by_hand),
        "block, norm folded around the convolution": folded,
        "block, linear instead of 1x1": linear,
    }


def moves(width: int, side: int) -> dict[str, Part]:
    """Return forms of the upscaling and of adding the tile."""
    pattern = torch.randn(1, width, side, side)

    def by_products(x: Tensor) -> Tensor:
        hats = []
        for n in x.shape[2:]:
            place = ((torch.arange(2 * n) + 0.5) / 2 - 0.5).clamp(0, n - 1)
            hats.append((1 - (place[:, None] - torch.arange(n)).abs()).clamp_min(0).to(x.dtype))
        return torch.einsum("Hh,bchw,Ww->bcHW", hats[0], x, hats[1])

    def by_transposed(x: Tensor) -> Tensor:
        line = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=x.dtype)
        kernel = (line[:, None] * line).expand(width, 1, 4, 4)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=width)

    def in_six_axes(x: Tensor) -> Tensor:
        batch, channels, height, columns = x.shape
        cells = x.reshape(batch, channels, height // side, side, columns // side, side)
        return (cells + pattern.to(x.dtype).reshape(1, channels, 1, side, 1, side)).reshape(x.shape)

    return {
        "upscale, interpolate": lambda x: interpolate(x, 2, "bilinear"),
        "upscale, matrix products": by_products,
        "upscale, transposed convolution": by_transposed,
        "pattern, added in strips": lambda x: add_pattern(x, pattern.to(x.dtype), None),
        "pattern, added in a view of six axes": in_six_axes,
        "pattern, repeated": lambda x: x + pattern.to(x.dtype).repeat(1, 1, x.shape[2] // side, x.shape[3] // side),
    }


def measure_parts(width: int, height: int, columns: int) -> list[dict[str, Any]]:
    """Return a row for each form, layout and precision."""
    rows = []
    for name, part in {**blocks(width), **moves(width, 5)}.items():
        for layout, memory_format in LAYOUTS.items():
            for dtype in ("fp32", "bf16"):
                amp, is_block = dtype == "bf16", name.startswith("block")
                x = torch.randn(1, width, height, columns).contiguous(memory_format=memory_format)
                x = (x if is_block or not amp else x.bfloat16()).requires_grad_()
                rows.append({"model": name, "size": f"{width}x{height}x{columns}", "layout": layout, "dtype": dtype})
                rows[-1] |= times_of(part, x, amp and is_block)
    return rows


def times_of(part: Part, x: Tensor, amp: bool) -> dict[str, float]:
    """Return milliseconds of the forward pass alone and with the backward pass."""

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            return part(x)

    with torch.no_grad():
        alone = milliseconds(forward)
        gradient = torch.randn_like(forward())
    return {"forward_ms": alone, "step_ms": milliseconds(lambda: forward().backward(gradient))}


def measure_network(preset: str, height: int, width: int) -> list[dict[str, Any]]:
    """Return rows of a whole network."""
    model, rows = HiNeRV(PRESETS[preset].config(height, width, 24)), []
    for layout, memory_format in LAYOUTS.items():
        placed = model.to(memory_format=memory_format)  # type: ignore[call-overload]
        for dtype in ("fp32", "bf16"):
            times = times_of(lambda x, placed=placed: placed([1.0]) + x, torch.zeros(1), dtype == "bf16")
            rows.append({"model": preset, "engine": "torch", "layout": layout, "dtype": dtype, **times})
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    ranges = dict.fromkeys(plan_int8(traced.graph).ranged, (-3.0, 3.0))
    feed = {f"x{i}": x.detach().numpy() for i, x in enumerate(model.sample([1.0]))}
    for target in (TARGETS[name] for name in CPU_TARGETS):
        engine = open_backend(lower(traced.graph, weights, target, ranges), threads=1)
        rows.append({"model": preset, "engine": target.name, "forward_ms": milliseconds(lambda e=engine: e.run(feed))})
        engine.close()
    return [{**row, "gmac": round(traced.graph.macs / 1e9, 2)} for row in rows]


def main() -> None:
    """Measure, print the rows and, with --record, write them into the repository."""
    torch.set_num_threads(1)
    rows = [*measure_parts(136, 90, 160), *measure_parts(34, 180, 320), *measure_network("hinerv-bunny-xxs", 180, 320)]
    for row in rows:
        print(row)
    if "--record" in sys.argv:
        print(write_results("hinerv_blocks", PROTOCOL.format(runs=RUNS), rows))


if __name__ == "__main__":
    main()
