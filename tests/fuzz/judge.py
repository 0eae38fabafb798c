"""What comes of one file: open it, decode the first and last frame of its segments, and say which outcome that is.

`python -m tests.fuzz.judge FILE ...` prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_runtime import open_audio, open_video
from inr_runtime.audio import AudioDecoder
from inr_runtime.decoder import Decoder
from inr_runtime.errors import BackendError, NvbError, UsageError
from inr_runtime.info import AudioInfo, VideoInfo
from inr_runtime.limits import Limits

LIMITS = Limits(
    pixels=1 << 16,
    frames=10_000,
    samples=100_000,
    tiles=256,
    segments=64,
    tensors=256,
    symbols=100_000,
    chunk_bytes=1 << 20,
    macs_per_frame=10**8,
    activation_bytes=1 << 24,
)
"""Room for every file of the corpus, and little enough that thousands of files take minutes."""

REFUSED, IDENTICAL, WRONG_PICTURE, DECODED = "refused", "identical", "wrong picture refused", "decoded"
DIFFERENT, EXCEPTION, BAD_MESSAGE = "other frames", "other exception", "bad message"
ALLOWED = {False: frozenset({REFUSED, IDENTICAL}), True: frozenset({REFUSED, IDENTICAL, WRONG_PICTURE, DECODED})}
"""Outcomes that the rule allows, by whether a checksum or digest was made anew."""

MOST_SEGMENTS = 6
LONGEST_MESSAGE = 600


@dataclass(frozen=True, eq=False)
class Playback:
    """Facts and frames of a file, frames by number."""

    info: VideoInfo | AudioInfo
    frames: dict[int, NDArray[np.generic]]


@dataclass(frozen=True)
class Verdict:
    """One of the outcomes above, and the error's class and text where there is one."""

    outcome: str
    detail: str = ""


def play(path: Path) -> Playback:
    """A good file, completely as `judge` sees it; raises what it raises."""
    with _open(path) as video:
        return Playback(video.info, {number: _frame(video, number) for number in _chosen(video)})


def judge(path: Path, original: Playback | None) -> Verdict:
    """Play a file that may be hostile. original: what it was before it was altered, None where that is unknown.

    Frames that were shown before a later segment is refused count as much as those of a whole file.
    """
    refusal: Verdict | None = None
    same = original is not None
    try:
        with _open(path) as video:
            same = original is not None and original.info == video.info
            for number in _chosen(video):
                try:
                    frame = _frame(video, number)
                except (NvbError, BackendError) as error:
                    refusal = refusal or _refusal(error, path)
                    continue
                if (frame.shape, frame.dtype) != _expected(video):
                    return Verdict(DIFFERENT, f"frame {number} is {frame.dtype} {frame.shape}")
                same = same and original is not None and _equals(original.frames.get(number), frame)
    except Exception as error:
        return _refusal(error, path)
    if refusal is not None and (same or original is None or refusal.outcome not in (REFUSED, WRONG_PICTURE)):
        return refusal
    return Verdict(IDENTICAL) if same else Verdict(DECODED, refusal.detail if refusal else "")


def _open(path: Path) -> Decoder | AudioDecoder:
    try:
        return open_video(path, threads=1, limits=LIMITS)
    except UsageError:  # it holds sound
        return open_audio(path, threads=1, limits=LIMITS)


def _frame(video: Decoder | AudioDecoder, number: int) -> NDArray[np.generic]:
    """A frame, or the sound from a sample on; also between two samples, which must not fail either."""
    if isinstance(video, Decoder):
        return video[number]
    rate = float(video.info.rate)
    if 1 <= rate <= 1 << 18:
        video.samples(2 * number, 2 * number + 5, rate=2 * rate)
    return video.samples(number, number + 1)


def _expected(video: Decoder | AudioDecoder) -> tuple[tuple[int, ...], type]:
    if isinstance(video, Decoder):
        return (video.info.height, video.info.width, 3), np.uint8
    return (1, video.info.channels), np.float32


def _chosen(video: Decoder | AudioDecoder) -> list[int]:
    index = video.reader.index[: MOST_SEGMENTS - 1] + video.reader.index[MOST_SEGMENTS - 1 :][-1:]
    return sorted({i for e in index for i in (e.first_frame, e.first_frame + e.frame_count - 1)})


def _equals(left: NDArray[np.generic] | None, right: NDArray[np.generic]) -> bool:
    return left is not None and np.array_equal(left, right)


def _refusal(error: Exception, path: Path) -> Verdict:
    """Only an error that is ours, names the file, and can be printed in a line is a refusal."""
    text = str(error)
    detail = f"{type(error).__name__}: {text.replace(str(path), path.name)[:LONGEST_MESSAGE]}"
    wrong_picture = isinstance(error, BackendError) and "thumbnail" in text
    if not wrong_picture and not isinstance(error, NvbError):
        return Verdict(EXCEPTION, detail)
    if str(path) not in text or not text.isprintable() or len(text) > len(str(path)) + LONGEST_MESSAGE:
        return Verdict(BAD_MESSAGE, detail)
    return Verdict(WRONG_PICTURE if wrong_picture else REFUSED, detail)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        verdict = judge(Path(name), None)
        print(f"{name}: {verdict.outcome} {verdict.detail}".rstrip())
