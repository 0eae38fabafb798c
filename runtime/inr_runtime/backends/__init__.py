"""Inference engines behind one small protocol: which there are, which really are there, and opening one.

Best first: TensorRT, ONNX Runtime's CUDA provider, its OpenVINO plugin, its CPU provider. Nothing here is imported
before an engine is asked for, so this package works where none is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import BackendError, MissingExtraError, UsageError
from inr_runtime.lower import Lowered


class Backend(Protocol):
    """Runs one lowered graph."""

    @property
    def name(self) -> str:
        """What really runs, for people: `onnxruntime 1.31.1 cpu-int8`."""
        ...

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.generic]:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        ...

    def close(self) -> None:
        """Free the engine; `run` is an error afterwards."""
        ...


@dataclass(frozen=True)
class _Home:
    """Where an engine's driver lives: a module here with `open_engine(lowered, threads)` and `probe()`."""

    module: str
    extra: str


_HOMES = {
    "tensorrt": _Home("trt", "tensorrt"),
    "cuda": _Home("cuda", "cuda"),
    "openvino": _Home("openvino", "openvino"),
    "cpu": _Home("ort", "cpu"),
}
BACKENDS = tuple(_HOMES)
"""Known engines, best first."""

BuildProgress = Callable[[str, int, int], None]
"""Told the name of a phase, steps done, and their number, while an engine is built."""

_listeners: list[BuildProgress] = []


@dataclass(frozen=True)
class Found:
    """What a look at an engine found: its version and device, or why it cannot be used here."""

    backend: str
    available: bool
    version: str | None = None
    device: str | None = None
    reason: str | None = None


def open_backend(lowered: Lowered, name: str = "auto", threads: int = 0) -> Backend:
    """Load a lowered graph into the engine that it was lowered for.

    name: one of `BACKENDS`, or auto for that engine. threads: 0 = all cores; engines on a GPU do not heed it.
    Raises `UsageError` on an unknown name or another engine's, `MissingExtraError` where the engine is not installed,
    `BackendError` where it refuses the graph.
    """
    check_name(name)
    engine = lowered.target.backend
    if name not in ("auto", engine):
        raise UsageError(f"target {lowered.target.name} runs on {engine}, not on {name}; leave out one of the two")
    backend: Backend = _driver(engine).open_engine(lowered, threads)
    return backend


def check_name(name: str) -> None:
    """Raise `UsageError` where no engine has this name."""
    if name not in ("auto", *BACKENDS):
        raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")


def look_for(name: str) -> Found:
    """Whether an engine is installed and has a device; never raises, opens no graph."""
    try:
        version, device = _driver(name).probe()
    except (MissingExtraError, BackendError) as error:
        return Found(name, False, reason=str(error))
    return Found(name, True, version, device)


def pip_line(name: str) -> str:
    """How to install an engine."""
    return f"pip install 'inr-video[{_HOMES[name].extra}]'"


@contextmanager
def building(listener: BuildProgress) -> Iterator[None]:
    """Tell `listener` how far engines are that are built inside this block: TensorRT takes minutes, once a graph."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def report_build(phase: str, done: int, steps: int) -> None:
    """Pass on how far the building of an engine is."""
    for listener in _listeners:
        listener(phase, done, steps)


def _driver(name: str) -> Any:
    return import_module(f"inr_runtime.backends.{_HOMES[name].module}")
