"""Clips so small that a whole training run takes about a second, and the commands without the start of a process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from commands import Call

import inr_export.cli
import inr_train.cli
from inr_runtime.info import VideoInfo
from inr_train import Clip


def moving_square(frames: int = 6, height: int = 24, width: int = 40) -> Clip:
    """A bright square that moves over a gradient."""
    y, x = np.mgrid[0:height, 0:width]
    background = np.stack([x * 4, y * 6, 80 + 0 * x], axis=-1).clip(0, 255).astype(np.uint8)
    stack = np.repeat(background[None], frames, axis=0)
    for i in range(frames):
        stack[i, 6:14, 3 * i : 3 * i + 8] = (230, 40, 60)
    return Clip(np.ascontiguousarray(stack), VideoInfo(width, height, frames), "moving square")


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    return moving_square()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of an odd size, as a file."""
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    y, x = np.mgrid[0:33, 0:47]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv444p"
        for t in range(5):
            frame = np.stack([x * 5, y * 7 + 5 * t, 90 + 0 * x], axis=-1).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], signals: None) -> Call:
    """Run `inr-train` or `inr-export` in this process and the test's folder."""

    def run(name: str, *arguments: object) -> tuple[int | str | None, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            {"inr-train": inr_train.cli.main, "inr-export": inr_export.cli.main}[name]()
        return (left.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def signals() -> Iterator[None]:
    """Give back the signal handlers that a command sets for the rest of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
