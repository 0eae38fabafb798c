"""Files that many tests share, made once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Threads that wait for each other on busy cores are many times slower than one thread; set before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell without job control starts what runs in the background deaf to Ctrl-C; all that tests interrupt would be too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from builders import make_nvb


@pytest.fixture(scope="session")
def tiny_nvb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48x32, 12 frames at 24 fps, one segment, made for int8."""
    return make_nvb(tmp_path_factory.mktemp("nvb") / "tiny.nvb")


@pytest.fixture(scope="session")
def tiny_nvb_two_segments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same size in segments of 7 and 5 frames with different weights."""
    return make_nvb(tmp_path_factory.mktemp("nvb") / "two.nvb", lengths=[7, 5], seed=10)


@pytest.fixture(scope="session")
def tiny_nvb_float(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as `tiny_nvb` but without the activation ranges that int8 needs."""
    return make_nvb(tmp_path_factory.mktemp("nvb") / "float.nvb", int8=False)
