"""What comes of one file: open it, decode the first and last frame of its segments, and say which outcome that is.

`python -m tests.fuzz.judge FILE ...` prints it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_runtime import open_video
from inr_runtime.decoder import Decoder
from inr_runtime.errors import BackendError, NvbError
from inr_runtime.info import VideoInfo
from inr_runtime.limits import Limits

LIMITS = Limits(
    pixels=1 << 16,
    frames=10_000,
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

    info: VideoInfo
    frames: dict[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class Verdict:
    """One of the outcomes above, and the error's class and text where there is one."""

    outcome: str
    detail: str = ""


def play(path: Path) -> Playback:
    """A good file, completely as `judge` sees it; raises what it raises."""
    with open_video(path, threads=1, limits=LIMITS) as video:
        return Playback(video.info, {number: video[number] for number in _chosen(video)})


def judge(path: Path, original: Playback | None) -> Verdict:
    """Play a file that may be hostile. original: what it was before it was altered, None where that is unknown.

    Frames that were shown before a later segment is refused count as much as those of a whole file.
    """
    refusal: Verdict | None = None
    same = original is not None
    try:
        with open_video(path, threads=1, limits=LIMITS) as video:
            same = original is not None and original.info == video.info
            for number in _chosen(video):
                try:
                    frame = video[number]
                except (NvbError, BackendError) as error:
                    refusal = refusal or _refusal(error, path)
                    continue
                if (frame.shape, frame.dtype) != ((video.info.height, video.info.width, 3), np.uint8):
                    return Verdict(DIFFERENT, f"frame {number} is {frame.dtype} {frame.shape}")
                same = same and original is not None and _equals(original.frames.get(number), frame)
    except Exception as error:
        return _refusal(error, path)
    if refusal is not None and (same or original is None or refusal.outcome not in (REFUSED, WRONG_PICTURE)):
        return refusal
    return Verdict(IDENTICAL) if same else Verdict(DECODED, refusal.detail if refusal else "")


def _chosen(video: Decoder) -> list[int]:
    index = video.reader.index[: MOST_SEGMENTS - 1] + video.reader.index[MOST_SEGMENTS - 1 :][-1:]
    return sorted({i for e in index for i in (e.first_frame, e.first_frame + e.frame_count - 1)})


def _equals(left: NDArray[np.uint8] | None, right: NDArray[np.uint8]) -> bool:
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
