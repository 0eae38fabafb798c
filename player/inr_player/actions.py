"""What `inr-play` does: inspect, measure, compare, or play to a sink. Results on stdout, words on stderr."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import click

from inr_player.backends import list_backends
from inr_player.benchmark import Benchmark, benchmark
from inr_player.inspect import describe
from inr_player.playback import count_at_rate, frames_at_rate, play
from inr_player.reference import Reference
from inr_player.request import Request, media_of, showing_builds
from inr_player.selection import part_of
from inr_player.sound import check_sound, play_sound
from inr_runtime.cli import StatusLine, clock, megabytes, print_json, say
from inr_runtime.decoder import Decoder
from inr_runtime.errors import InrError, UsageError
from inr_runtime.format import NvbReader
from inr_runtime.media import check_target, open_writer
from inr_runtime.opened import OpenFile

if TYPE_CHECKING:
    from inr_player.compare import Comparison


def run(request: Request) -> None:
    """Do what was asked for."""
    if request.listing:
        return _list(request)
    if not request.info and media_of(request.file) == "audio":
        check_sound(request)
        return _prepare(request, request.open_sound) if request.prepare else play_sound(request)
    if request.rate or Path(request.output or "").suffix.lower() == ".wav":
        raise UsageError(f"{request.file} holds pictures, no sound; write -o out.mp4 or out.png, and no --rate")
    if request.info:
        _info(request)
    elif request.prepare:
        _prepare(request, request.open)
    elif request.benchmark:
        _benchmark(request)
    elif request.profile:
        _profile(request)
    elif request.reference:
        _compare(request, request.reference)
    else:
        _play(request)


def _info(request: Request) -> None:
    with NvbReader(request.file) as reader:
        facts = describe(reader)
    if request.as_json:
        return print_json(facts)
    from inr_player.tables import show_info  # tables take a while to import

    show_info(facts)


def _profile(request: Request) -> None:
    from inr_player.profile import profile

    with StatusLine("inr-play", request.quiet) as status:
        result = profile(
            request.file, request.target, request.threads, lambda done, count: status.update(done, count, "frame")
        )
    if request.as_json:
        return print_json(asdict(result))
    from inr_player.tables import show_profile

    show_profile(asdict(result))


def _list(request: Request) -> None:
    rows = list_backends(request.file or None, request.threads)
    if request.as_json:
        return print_json(rows)
    from inr_player.tables import show_backends

    show_backends(rows)


def _prepare(request: Request, open_file: Callable[[], OpenFile]) -> None:
    start = perf_counter()
    with open_file() as decoder, showing_builds(request.quiet):
        decoder.prepare()
        report = {"backend": decoder.backend, "target": decoder.target.name, "seconds": perf_counter() - start}
    print_json(report) if request.as_json else say(f"ready in {report['seconds']:.1f} s", request.quiet)


def _benchmark(request: Request) -> None:
    with StatusLine("inr-play", request.quiet) as status:
        result = benchmark(
            request.file,
            request.selection,
            backend=request.backend,
            target=request.target,
            threads=request.threads,
            size=request.size,
            progress=lambda done, count: status.update(done, count, "frame"),
        )
    print_json(asdict(result)) if request.as_json else click.echo(_benchmark_line(result))


def _benchmark_line(result: Benchmark) -> str:
    memory = "" if result.peak_memory_bytes is None else f"  memory {megabytes(result.peak_memory_bytes)}"
    return (
        f"{result.fps:.1f} fps  network {result.fps_network:.1f} fps  p50 {result.ms_p50:.2f} ms  "
        f"p99 {result.ms_p99:.2f} ms  first frame {result.first_frame_ms:.0f} ms{memory}  "
        f"{result.backend}, {result.threads} threads"
    )


def _compare(request: Request, reference: Reference) -> None:
    from inr_player.compare import compare, open_reference  # ffmpeg takes a while to import

    with request.open() as decoder:
        frames = request.selection.of(decoder.info)
        bounded = request.selection.bounded
        pictures = open_reference(reference, decoder, frames, bounded, lambda text: say(text, request.quiet))
        with StatusLine("inr-play", request.quiet) as status:
            result = compare(decoder, pictures, frames, lambda done: status.update(done, len(frames), "frame"))
    print_json(asdict(result)) if request.as_json else click.echo(_comparison_line(result))


def _comparison_line(result: Comparison) -> str:
    index, lowest = result.worst
    ssim = "" if result.ms_ssim is None else f"  ms-ssim {result.ms_ssim:.4f}  ms-ssim-y {result.ms_ssim_y:.4f}"
    return (
        f"psnr {result.psnr_db:.2f} dB  psnr-yuv {result.psnr_yuv_db:.2f} dB{ssim}  "
        f"worst frame {index} {lowest:.2f} dB  {result.bits_per_pixel:.4f} bpp  {result.frames} frames"
    )


def _play(request: Request) -> None:
    if not request.output and request.vo == "window":
        _refuse_window(request.file)
    target, form = request.output or "null", request.format
    if form is None and target == "-" and request.pix_fmt == "rgb24":
        form = "raw"
    # Opening an engine may take minutes.
    check_target(target, overwrite=request.overwrite, format=form, pix_fmt=request.pix_fmt)
    with request.open() as decoder:
        chosen = request.selection.of(decoder.info)
        info, frames = part_of(decoder.info, chosen), decoder.frames(chosen.start, chosen.stop)
        if request.fps:
            info = replace(info, fps=request.fps, frame_count=count_at_rate(decoder, chosen, request.fps), pts=None)
            frames = frames_at_rate(decoder, chosen, request.fps, _interpolates(request, decoder))
        count, start = info.frame_count, perf_counter()
        sink = open_writer(target, info, overwrite=request.overwrite, format=form, pix_fmt=request.pix_fmt)
        with StatusLine("inr-play", request.quiet) as status, sink as writer:
            play(frames, writer, lambda done: _progress(status, done, count, perf_counter() - start))
        report = _written(target, count, perf_counter() - start, decoder)
    print_json(report) if request.as_json else say(_written_line(report), request.quiet)


def _interpolates(request: Request, decoder: Decoder) -> bool:
    """Whether moments between frames come from the network: where it is known to draw them well, or on demand."""
    if request.interpolate or decoder.beats_blend:
        return True
    if request.fps and request.fps > decoder.info.fps:
        known = "its network draws moments between frames worse than a blend of them"
        unknown = "it has no score for moments between frames (inr-train --heldout gives one)"
        why = unknown if decoder.beats_blend is None else known
        say(f"{request.file}: {why}; frames are repeated, --interpolate asks the network", request.quiet)
    return False


def _refuse_window(file: str) -> NoReturn:
    NvbReader(file).close()  # what is wrong with the file is better to know than how to play it
    raise InrError(
        "there is no window yet; write a video with -o out.mp4, decode to nowhere with --vo null, "
        "or pipe it to a player with -o - | mpv -"
    )


def _progress(status: StatusLine, done: int, total: int, seconds: float) -> None:
    rate = done / seconds
    status.update(done, total, "frame", fps=f"{rate:.0f}", eta=clock((total - done) / rate))


def _written(target: str, frames: int, seconds: float, decoder: Decoder) -> dict[str, Any]:
    path = Path(target)
    return {
        "output": target,
        "frames": frames,
        "width": decoder.info.width,
        "height": decoder.info.height,
        "output_bytes": path.stat().st_size if path.is_file() else None,
        "fps": frames / seconds,
        "backend": decoder.backend,
    }


def _written_line(report: dict[str, Any]) -> str:
    name = {"-": "the pipe", "null": "nowhere"}.get(report["output"], report["output"])
    size = f", {megabytes(report['output_bytes'])}" if report["output_bytes"] is not None else ""
    shape = f"{report['frames']} frames, {report['width']}x{report['height']}"
    return f"wrote {name}: {shape}{size}, {report['fps']:.0f} fps"
