"""Which engine and precision play a file: what was asked for, or the best that is there.

Under auto the order is TensorRT in float16, CUDA in float16, OpenVINO, and ONNX Runtime on the CPU. On CPUs it is int8
where the file was made for it, float32 where it was not. Where the CPU multiplies matrices of bfloat16 (AMX), OpenVINO
takes that in the place of float32, and of int8 where norms keep much of a network in float anyway; not for sines and
sound, which need more than its 8 bits. Where int8 sums overflow (no VNNI), it takes float32: nothing sets it to exact
ones. int8 on TensorRT is taken on demand only. Of those that are there, the first is taken that opens the file and
draws the picture of its thumbnail.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from inr_runtime.backends import BACKENDS, check_name, look_for
from inr_runtime.backends.ort import int8_saturates
from inr_runtime.chunks import Header
from inr_runtime.errors import UsageError
from inr_runtime.lower import TARGETS, Target, target_named


def choose_targets(header: Header, backend: str, target: str) -> tuple[list[Target], dict[str, str]]:
    """What to try, best first, and why engines that are not there were passed over, by engine.

    Where engine or target is named, that alone is tried, wherever it leads. Raises `UsageError` on unknown names and
    on a target of another engine.
    """
    check_name(backend)
    if target != "auto":
        wanted = target_named(target)
        if backend not in ("auto", wanted.backend):
            raise UsageError(f"target {target} runs on {wanted.backend}, not on {backend}; leave out one of the two")
        return [wanted], {}
    if backend != "auto":
        return [best_target(header, backend)], {}
    looks = [look_for(name) for name in BACKENDS[:-1]]
    missing = {found.backend: found.reason or "" for found in looks if not found.available}
    # The CPU is last and always tried: its errors are the ones to show.
    return [best_target(header, name) for name in BACKENDS if name not in missing], missing


def best_target(header: Header, backend: str) -> Target:
    """The precision in which an engine plays a file best."""
    exact = "int8" if header.ranges else "fp32"
    if backend == "openvino":
        exact = "fp32" if exact == "int8" and int8_saturates() else exact
        floats = exact == "fp32" or _has(header, "LayerNormalization")
        return TARGETS[f"openvino-{'bf16' if floats and has_bf16_matrices() and not _is_delicate(header) else exact}"]
    return TARGETS[{"tensorrt": "trt-fp16", "cuda": "cuda-fp16", "cpu": f"cpu-{exact}"}[backend]]


@functools.lru_cache(maxsize=1)
def has_bf16_matrices() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 (AMX); False where the system does not tell."""
    try:
        return re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text(encoding="utf-8")) is not None
    except OSError:
        return False


def _is_delicate(header: Header) -> bool:
    """Whether 8 bits are too few for what the network computes with."""
    return header.media == "audio" or _has(header, "Sin")


def _has(header: Header, op: str) -> bool:
    return any(node.op == op for graph in header.graphs for node in graph.nodes)
