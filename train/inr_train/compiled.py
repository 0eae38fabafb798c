"""Steps through `torch.compile`: what a model draws, forward and backward, in code made for this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from inr_runtime.errors import UsageError, first_line
from inr_train.memory import ran_out
from inr_train.models import VideoModel

Decode = Callable[..., Tensor]


def compiled_decode(model: VideoModel, device: torch.device) -> Decode:
    """`model.decode` by torch.compile, on a GPU in CUDA graphs; made when it is called first."""
    decode: Decode = torch.compile(model.decode, mode="reduce-overhead" if device.type == "cuda" else None)
    return decode


@contextmanager
def drawing_with(model: VideoModel, decode: Decode | None) -> Iterator[None]:
    """Let the model draw with `decode` meanwhile; None changes nothing. All that is no step sees the model as it is."""
    if decode is None:
        yield
        return
    if next(model.parameters()).device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
    model.decode = decode  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.decode


def check_compiler(device: torch.device) -> None:
    """Raise `UsageError` where steps cannot be compiled here, for a run that goes on and does not measure them."""
    with compiling():
        torch.compile(torch.square)(torch.ones(1, device=device))


@contextmanager
def compiling() -> Iterator[None]:
    """Raise `UsageError` where steps cannot be compiled here: without a C++ compiler, say."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise
        words = f"torch.compile does not work here: {first_line(error)}; leave --compile out"
        raise UsageError(words) from error
