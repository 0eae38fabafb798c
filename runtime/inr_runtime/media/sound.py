"""Sound from any file that ffmpeg's libraries can read, and to WAV."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.files import check_output, writing
from inr_runtime.info import AudioInfo
from inr_runtime.media.clock import Timeline
from inr_runtime.media.options import Position

SOUND_SUFFIXES = {".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
"""Files that are read as sound."""

MAX_WAV_RATE = 1 << 20
MAX_WAV_BYTES = (1 << 32) - 64

Samples = NDArray[np.float32]


def is_sound(path: str | Path) -> bool:
    """Whether a path is that of a sound, by its suffix."""
    return Path(path).suffix.lower() in SOUND_SUFFIXES


def read_sound(path: str | Path, start: Position | None = None, end: Position | None = None) -> tuple[Samples, int]:
    """The first audio stream of a file: float32 (n, channels) in [-1, 1], and its sample rate in Hz.

    start, end: what to keep of it; a frame is a sample. Raises `MediaError` where there is no sound that can be read,
    `UsageError` where nothing of it is left.
    """
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file; check the name")
    try:
        with av.open(f"file:{path}", "r") as container:
            stream = container.streams.audio[0]
            rate, layout = int(stream.rate), stream.layout
            # Packed: reading more than 8 planes of a frame ends the process (PyAV 18.1).
            resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
            frames = chain(container.decode(stream), [None])
            parts = [f.to_ndarray() for frame in frames for f in resampler.resample(frame)]
    except (av.FFmpegError, OSError, IndexError) as error:
        reason = getattr(error, "strerror", None) or "no sound in it"
        raise MediaError(f"{path}: not a sound that can be read ({reason})") from error
    if not parts or not sum(part.size for part in parts):
        raise MediaError(f"{path}: no sample could be decoded; the file is empty or damaged")
    samples = np.concatenate(parts, axis=1).astype(np.float32).reshape(-1, layout.nb_channels)
    timeline = Timeline(len(samples), Fraction(rate))
    first = timeline.index_of(start) if start else 0
    last = timeline.index_of(end) if end else len(samples)
    if first >= min(last, len(samples)):
        raise UsageError(
            f"{path}: nothing lies between --start {start or '0s'} and --end {end}; it has {len(samples)} samples"
        )
    return np.clip(np.nan_to_num(samples[first:last]), -1, 1), rate


class SoundWriter(Protocol):
    """Takes samples in order."""

    def write(self, samples: Samples) -> None:
        """Store samples, float32 (n, channels) in [-1, 1]."""
        ...


class _Wav:
    def __init__(self, file: wave.Wave_write) -> None:
        self._file = file

    def write(self, samples: Samples) -> None:
        self._file.writeframesraw(np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes())


class _Nothing:
    def write(self, samples: Samples) -> None:
        pass


def check_sound_target(target: str, *, overwrite: bool = False) -> None:
    """Raise the `UsageError` that `open_sound_writer` would, as far as that does not depend on the sound."""
    if target == "null":
        return
    path = Path(target)
    if path.suffix.lower() != ".wav":
        raise UsageError(f"{path}: sound is written as WAV; use -o {path.with_suffix('.wav')}")
    check_output(path, overwrite)


@contextmanager
def open_sound_writer(target: str, info: AudioInfo, *, overwrite: bool = False) -> Iterator[SoundWriter]:
    """Open `target` for sound: a `.wav` file of 16-bit samples, or `null`; appears complete or not at all.

    Raises `UsageError` where the file exists without `overwrite`, or its suffix is another.
    """
    check_sound_target(target, overwrite=overwrite)
    if target == "null":
        yield _Nothing()
        return
    path = Path(target)
    if not 1 <= info.rate <= MAX_WAV_RATE:
        raise UsageError(f"{path}: no WAV has {float(info.rate):g} samples a second; choose a --rate")
    if info.samples * info.channels * 2 > MAX_WAV_BYTES:
        raise UsageError(f"{path}: {info.samples} samples are too long for WAV; write parts with --start and --length")
    with writing(path) as file, wave.open(file, "wb") as wav:
        wav.setnchannels(info.channels)
        wav.setsampwidth(2)
        wav.setframerate(round(info.rate))
        wav.setnframes(info.samples)
        yield _Wav(wav)
