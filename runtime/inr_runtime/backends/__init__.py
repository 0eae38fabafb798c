"""Inference engines behind one small protocol; `open_backend` picks the best that is really there."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import UsageError
from inr_runtime.lower import Lowered


class Backend(Protocol):
    """Runs one lowered graph."""

    @property
    def name(self) -> str:
        """What really runs, for people: `onnxruntime cpu-int8`."""
        ...

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.generic]:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        ...

    def close(self) -> None:
        """Free the engine; `run` is an error afterwards."""
        ...


BACKENDS = ("onnxruntime",)
"""Known engines, best first."""


def open_backend(lowered: Lowered, name: str = "auto", threads: int = 0) -> Backend:
    """Load a lowered graph into an engine.

    name: one of `BACKENDS`, or auto for the first that is installed. threads: 0 = all cores.
    Raises `UsageError` on an unknown name, `MissingExtraError` where the engine is not installed, `BackendError`
    where it refuses the graph.
    """
    if name not in ("auto", *BACKENDS):
        raise UsageError(f"unknown backend {name!r}; known: auto, {', '.join(BACKENDS)}")
    from inr_runtime.backends.ort import OrtBackend

    return OrtBackend(lowered, threads)
