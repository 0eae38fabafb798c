"""Want of memory, on a device or on the machine: known by its many faces, and explained in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from inr_runtime.errors import InrError

_SIGNS = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What PyTorch says in a plain `RuntimeError`: of the CPU's memory, and of what CUDA's libraries take."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def way_out(device: torch.device) -> str:
    """What to tell where memory ran out."""
    if device.type == "cpu":
        return "this machine has too little memory; use a smaller --preset or --size, or fewer --frames"
    return "the device has too little memory; use a smaller --preset or --size, or --device cpu"


@contextmanager
def explained(device: torch.device) -> Iterator[None]:
    """Raise `InrError` with the way out where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        raise InrError(way_out(device)) from error
