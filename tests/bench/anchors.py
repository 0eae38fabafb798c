"""Classic codecs to stand beside: x265 through PyAV, elementary-stream bytes, RGB PSNR of what decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from inr_runtime.metrics import psnr
from inr_train.clip import Clip


def x265(source: Path | None, clip: Clip, crf: float, preset: str = "medium") -> tuple[int, float]:
    """Bytes of all packets and mean RGB PSNR at a rate factor.

    tune=psnr, keyint 250, the machine's threads, no option text in the stream. source: the video file that `clip` was
    read from, unscaled; its own 4:2:0 planes are encoded. None: the clip's pictures, made 4:2:0 again, for clips that
    were scaled. The stream is decoded again here.
    """
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = clip.info.width, clip.info.height, "yuv420p"
    encoder.framerate, encoder.time_base = clip.info.fps, 1 / clip.info.fps
    encoder.options = {"preset": preset, "tune": "psnr", "x265-params": f"crf={crf}:log-level=none:keyint=250:info=0"}
    packets = []
    for i, frame in enumerate(_decoded(source) if source else _converted(clip)):
        frame.pts, frame.time_base = i, encoder.time_base
        frame.pict_type = av.video.frame.PictureType.NONE
        packets += encoder.encode(frame)
    packets += encoder.encode()
    decoder = av.CodecContext.create("hevc", "r")
    decoded = [f for p in [*packets, None] for f in decoder.decode(p)]
    quality = [psnr(f.to_ndarray(format="rgb24"), s) for f, s in zip(decoded, clip.frames, strict=True)]
    return sum(p.size for p in packets), float(np.mean(quality))


def _decoded(source: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(source)) as container:
        yield from container.decode(video=0)


def _converted(clip: Clip) -> Iterator[av.VideoFrame]:
    for frame in clip.frames:
        yield av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")


def x265_curve(clip: Clip, crfs: Sequence[float]) -> list[dict[str, Any]]:
    """crf, bytes and psnr_db of the clip's pictures at each rate factor, as `x265` without a source."""
    points = [(crf, *x265(None, clip, crf)) for crf in crfs]
    return [{"crf": crf, "bytes": size, "psnr_db": quality} for crf, size, quality in points]


def x265_at_psnr(source: Path, clip: Clip, target_db: float) -> dict[str, Any]:
    """The smallest x265 stream of at least `target_db`, by bisection of the rate factor to 1/8."""
    low, high = 10.0, 42.0
    best: dict[str, Any] = {}
    while high - low > 1 / 8:
        crf = (low + high) / 2
        size, quality = x265(source, clip, crf)
        if quality >= target_db:
            best, low = {"bytes": size, "psnr_db": quality, "crf": crf}, crf
        else:
            high = crf
    if not best:
        raise ValueError(f"x265 does not reach {target_db:.2f} dB at rate factor {low:g}")
    return best


def x265_file(
    source: Path, output: Path, crf: float, preset: str = "medium", again: bool = False
) -> tuple[int, float, int]:
    """Encode the first video of a file as .mkv; bytes of its packets, mean RGB PSNR of what decodes, frames.

    tune=psnr, keyint 250, no option text in the stream. What is there already is not encoded `again` unless wanted.
    """
    if again or not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = output.with_suffix(".part.mkv")
        with av.open(str(source)) as clip, av.open(str(temporary), "w") as container:
            read = clip.streams.video[0]
            params = {"preset": preset, "tune": "psnr", "x265-params": f"crf={crf}:log-level=none:keyint=250:info=0"}
            stream = container.add_stream("libx265", read.average_rate, params)
            stream.width, stream.height, stream.pix_fmt = read.width, read.height, "yuv420p"
            for i, frame in enumerate(clip.decode(read)):
                frame.pts, frame.time_base = i, 1 / read.average_rate
                frame.pict_type = av.video.frame.PictureType.NONE
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        temporary.replace(output)
    with av.open(str(source)) as clip, av.open(str(output)) as stored:
        pairs = zip(clip.decode(video=0), stored.decode(video=0), strict=True)
        quality = [psnr(*(f.to_ndarray(format="rgb24") for f in pair)) for pair in pairs]
    with av.open(str(output)) as stored:
        size = sum(packet.size for packet in stored.demux(video=0))
    return size, float(np.mean(quality)), len(quality)
