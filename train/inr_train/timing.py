"""How long work takes here, on a GPU too, which works ahead of who tells it what to do."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def wait_for(device: torch.device) -> None:
    """Until a device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def warm_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the second of two runs: the first also loads what the others find there."""
    work()
    wait_for(device)
    begin = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - begin
