"""`open_writer`: frames to a video file, to numbered images, to a pipe, or to nothing."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from inr_runtime.errors import InrError, UsageError
from inr_runtime.files import check_name, check_output, replacing, writing
from inr_runtime.info import VideoInfo
from inr_runtime.media.pattern import is_pattern, matching, numbered

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from inr_runtime.frame import Frame

_H264 = ("libx264", {"crf": "12", "preset": "medium"})
_VP9 = ("libvpx-vp9", {"crf": "15", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"})
_CODECS = {".mp4": _H264, ".mkv": _H264, ".mov": _H264, ".webm": _VP9}
_KINDS = {".y4m": "y4m", ".yuv": "raw", ".rgb": "raw", ".png": "png"}
_Y4M = {"yuv420p": "420mpeg2", "yuv444p": "444"}
_LARGEST_TERM = 10**9
"""Of a fraction in a container: libvpx takes no more, FFmpeg 31 bits."""


class Writer(Protocol):
    """Takes frames one at a time, in order."""

    def write(self, frame: Frame) -> None:
        """Store one frame; raise `InrError` where it cannot be stored."""
        ...


class _Sink:
    """A `Writer` around a function, which checks that every frame has the promised size."""

    def __init__(self, info: VideoInfo, store: Callable[[Frame], None]) -> None:
        self._shape, self._store = (info.height, info.width, 3), store

    def write(self, frame: Frame) -> None:
        if frame.pixels.shape != self._shape:
            raise ValueError(f"a frame of shape {frame.pixels.shape} for a video of {self._shape}")
        self._store(frame)


def open_writer(
    target: str,
    info: VideoInfo,
    *,
    overwrite: bool = False,
    format: str | None = None,
    pix_fmt: str | None = None,
) -> AbstractContextManager[Writer]:
    """Open `target` for the frames of a video described by `info`; use it in a `with` statement.

    | target | becomes |
    |---|---|
    | `.mp4` `.mkv` `.mov` | H.264, near lossless; yuv420p, or yuv444p where a side is odd |
    | `.webm` | VP9, the same, but pixels become square |
    | `.y4m` | YUV4MPEG2: yuv420p or yuv444p, at the average rate |
    | `.yuv` `.rgb` | frames without any header: yuv420p, rgb24 |
    | `frames/%05d.png` | one image a frame, numbered from 1; the folder is made |
    | `.png` | the only frame |
    | `-` | y4m on stdout, or with format "raw" rgb24 without any header |
    | `null` | nothing |

    format ("y4m", "raw") overrides the suffix. pix_fmt is yuv420p, yuv444p, or for raw also rgb24. Files
    appear complete or not at all. YUV is made with `frame.matrix`, and video files are tagged with
    `info.matrix_used`. Raises `UsageError` (unknown suffix, file exists without `overwrite`, options
    that do not fit) at once, `InrError` (disk full) later; `BrokenPipeError` is left to the caller.
    """
    if target == "null":
        return _nothing(info)
    check_target(target, overwrite=overwrite, format=format, pix_fmt=pix_fmt)
    path, kind = Path(target), _kind(target, format)
    if kind in ("y4m", "raw"):
        default = "rgb24" if kind == "raw" and path.suffix.lower() != ".yuv" else "yuv420p"
        return _stream(target, info, kind, pix_fmt or default)
    if kind == "png":
        return _images(path, info)
    even = info.width % 2 == 0 and info.height % 2 == 0
    return _video(path, info, pix_fmt or ("yuv420p" if even else "yuv444p"))


def check_target(
    target: str, *, overwrite: bool = False, format: str | None = None, pix_fmt: str | None = None
) -> None:
    """Raise the `UsageError` that `open_writer` would, as far as that does not depend on the video."""
    if target == "null":
        return
    path, kind = Path(target), _kind(target, format)
    if kind != "png":
        _check_pix_fmt(pix_fmt, kind)
    if target == "-":
        return _check_pipe(kind)
    if kind != "png":
        return check_output(path, overwrite)
    for existing in matching(path) if is_pattern(path) else [path]:
        check_name(existing, overwrite)


def _kind(target: str, format: str | None) -> str:
    if format or target == "-":
        return format or "y4m"
    path = Path(target)
    suffix = path.suffix.lower()
    if suffix in _CODECS:
        return "video"
    if suffix not in _KINDS:
        known = " ".join([*_CODECS, *_KINDS])
        raise UsageError(f"{path}: cannot tell the format from '{suffix}'; known are {known}, %05d.png, - and null")
    return _KINDS[suffix]


def _check_pix_fmt(pix_fmt: str | None, kind: str) -> None:
    allowed = [*_Y4M, "rgb24"] if kind == "raw" else list(_Y4M)
    if pix_fmt and pix_fmt not in allowed:
        raise UsageError(f"--pix-fmt {pix_fmt} does not fit here; choose from {', '.join(allowed)}")


def _check_pipe(kind: str) -> None:
    if kind not in ("y4m", "raw"):
        raise UsageError(f"--format {kind} cannot go to a pipe; use y4m or raw, or give -o a file name")
    if sys.stdout.isatty():
        raise UsageError("-o - writes pictures, which a terminal cannot show; pipe it: ... -o - | mpv -")


@contextmanager
def _nothing(info: VideoInfo) -> Iterator[Writer]:
    yield _Sink(info, lambda frame: None)


@contextmanager
def _video(path: Path, info: VideoInfo, pix_fmt: str) -> Iterator[Writer]:
    """A compressed file; timestamps are kept where the rate varies."""
    if info.duration < 0.001:
        raise UsageError(f"{path}: {info.duration:.1g} s are too short for a video; add --fps, or write %05d.png")
    import av

    from inr_runtime.media.colour import rgb_to_yuv

    try:
        # Without file: a colon in the name would end the name of a protocol.
        with replacing(path) as temporary, av.open(f"file:{temporary}", "w", options=_muxer(path)) as container:
            codec, settings = _CODECS[path.suffix.lower()]
            stream = container.add_stream(codec, _fitting(info.fps), dict(settings))
            _describe(stream, info, pix_fmt)
            ticks = _Ticks(info)

            def store(frame: Frame) -> None:
                picture = rgb_to_yuv(frame.pixels, frame.matrix, pix_fmt)
                picture.pts, picture.time_base = ticks.of(frame), ticks.time_base
                container.mux(stream.encode(picture))

            yield _Sink(info, store)
            if not ticks.count:
                raise InrError(f"cannot write {path}: there was no frame to write")
            container.mux(stream.encode(None))
    except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        raise InrError(f"cannot write {path}: {error}; nothing was changed") from error


def _muxer(path: Path) -> dict[str, str]:
    return {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}


def _describe(stream: VideoStream, info: VideoInfo, pix_fmt: str) -> None:
    """Tell the encoder the shape, the clock and what the colours mean."""
    codec = stream.codec_context
    codec.width, codec.height, codec.pix_fmt = info.width, info.height, pix_fmt
    codec.time_base = _Ticks(info).time_base
    codec.sample_aspect_ratio = _fitting(info.pixel_aspect)
    from inr_runtime.media.colour import LIMITED, TAG_OF_MATRIX

    codec.colorspace, codec.color_range = TAG_OF_MATRIX[info.matrix_used], LIMITED
    codec.color_primaries, codec.color_trc = info.primaries, info.transfer


def _fitting(value: Fraction) -> Fraction:
    """The nearest positive fraction whose terms containers can hold; the usual ones stay exact."""
    if value > 1:
        return 1 / _fitting(1 / value)
    return max(value.limit_denominator(_LARGEST_TERM), Fraction(1, _LARGEST_TERM))


class _Ticks:
    """Timestamps in whole units of `time_base`, from 0 at the first frame written."""

    def __init__(self, info: VideoInfo) -> None:
        self.time_base = _fitting(info.time_base if info.pts else 1 / info.fps)
        self._varies, self.count, self._start = info.pts is not None, 0, 0.0

    def of(self, frame: Frame) -> int:
        self._start = frame.pts if self.count == 0 else self._start
        self.count += 1
        if not self._varies:
            return self.count - 1
        return round(Fraction(frame.pts - self._start) / self.time_base)


@contextmanager
def _stream(target: str, info: VideoInfo, kind: str, pix_fmt: str) -> Iterator[Writer]:
    """Uncompressed frames to a file or to stdout, with the headers of YUV4MPEG2 or none."""
    with nullcontext(sys.stdout.buffer) if target == "-" else writing(Path(target)) as file:
        if kind == "y4m":
            file.write(_y4m_header(info, pix_fmt))

        def store(frame: Frame) -> None:
            file.write(b"FRAME\n" if kind == "y4m" else b"")
            file.write(_raw(frame, pix_fmt))

        yield _Sink(info, store)
        file.flush()


def _y4m_header(info: VideoInfo, pix_fmt: str) -> bytes:
    fps, aspect = _fitting(info.fps), _fitting(info.pixel_aspect)
    rate = f"F{fps.numerator}:{fps.denominator} Ip A{aspect.numerator}:{aspect.denominator}"
    return f"YUV4MPEG2 W{info.width} H{info.height} {rate} C{_Y4M[pix_fmt]} XCOLORRANGE=LIMITED\n".encode()


def _raw(frame: Frame, pix_fmt: str) -> bytes:
    if pix_fmt == "rgb24":
        return frame.pixels.tobytes()
    from inr_runtime.media.colour import planes_of, rgb_to_yuv

    return b"".join(plane.tobytes() for plane in planes_of(rgb_to_yuv(frame.pixels, frame.matrix, pix_fmt)))


@contextmanager
def _images(path: Path, info: VideoInfo) -> Iterator[Writer]:
    """PNG files, collected in a hidden folder and moved to their names when all are there."""
    if not is_pattern(path) and info.frame_count != 1:
        raise UsageError(f"{path}: one image cannot hold {info.frame_count} frames; write %05d.png instead")
    encode, count = _png_encoder(info), 0
    with _staging(path) as folder:

        def store(frame: Frame) -> None:
            nonlocal count
            count += 1
            (folder / numbered(path, count)).write_bytes(encode(frame))

        yield _Sink(info, store)
    if is_pattern(path):
        _warn_of_older(path, count)


def _warn_of_older(path: Path, count: int) -> None:
    """Images of a longer video that was there before are not ours to remove, but they would be read as its end."""
    written = {numbered(path, number) for number in range(1, count + 1)}
    older = [file.name for file in matching(path) if file.name not in written]
    if older:
        text = "%s: %d images, from %s on, were there before and are no part of this video"
        logging.getLogger("inr").warning(text, path, len(older), older[0])


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    """A temporary folder whose files move beside `path` on success and vanish otherwise."""
    made = [folder for folder in path.parents if not folder.exists()]
    folder = path.parent / f".frames.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        yield folder
        for file in sorted(folder.iterdir()):
            os.replace(file, path.parent / file.name)
        made = []
    except OSError as error:
        raise InrError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # another run writes there too
                each.rmdir()


def _png_encoder(info: VideoInfo) -> Callable[[Frame], bytes]:
    import av

    codec = av.VideoCodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = info.width, info.height, "rgb24"
    codec.time_base, codec.thread_count = Fraction(1, 25), 1

    def encode(frame: Frame) -> bytes:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), "rgb24")
        return b"".join(bytes(packet) for packet in codec.encode(picture))

    return encode
