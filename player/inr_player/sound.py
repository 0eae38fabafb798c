"""From an open sound to a WAV file."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter

from inr_player.request import Request
from inr_player.selection import Selection
from inr_runtime.audio import AudioDecoder
from inr_runtime.cli import StatusLine, megabytes, print_json, say
from inr_runtime.errors import UsageError

BLOCK = 1 << 16


def play_sound(request: Request) -> None:
    """Write a file of sound as WAV, or decode it to nowhere."""
    from inr_runtime.media.sound import check_sound_target, open_sound_writer  # ffmpeg takes a while to import

    target = request.output or "null"
    check_sound_target(target, overwrite=request.overwrite)
    with request.open_sound() as sound:
        info = replace(sound.info, rate=Fraction(request.rate or sound.info.rate), samples=sound.count_at(request.rate))
        chosen = request.selection.of(replace(info.as_video(), width=1))
        begin = perf_counter()
        with (
            StatusLine("inr-play", request.quiet) as status,
            open_sound_writer(target, replace(info, samples=len(chosen)), overwrite=request.overwrite) as writer,
        ):
            for first in range(chosen.start, chosen.stop, BLOCK):
                last = min(first + BLOCK, chosen.stop)
                writer.write(sound.samples(first, last, request.rate))
                status.update(last - chosen.start, len(chosen), "sample")
        seconds = perf_counter() - begin
        report = _report(request, sound, len(chosen), info.rate, seconds)
    print_json(report) if request.as_json else say(_line(report), request.quiet)


def check_sound(request: Request) -> None:
    """Raise `UsageError` on what only pictures have."""
    only_pictures = {
        "--fps": request.fps,
        "--size": request.size,
        "--benchmark": request.benchmark,
        "--profile": request.profile,
        "--compare": request.reference,
        "--format": request.format,
        "--pix-fmt": request.pix_fmt,
    }
    given = [name for name, value in only_pictures.items() if value]
    if given:
        raise UsageError(f"{request.file} holds sound: {given[0]} is for pictures; write it with -o out.wav")
    if request.selection != Selection(request.selection.start, request.selection.end, request.selection.length):
        raise UsageError(f"{request.file} holds sound: --frames is for pictures; use --length")
    if not (request.output or request.prepare) and request.vo != "null":
        raise UsageError(f"{request.file} holds sound; write it with -o out.wav, or to nowhere with --vo null")


def _report(request: Request, sound: AudioDecoder, count: int, rate: Fraction, seconds: float) -> dict[str, object]:
    target = request.output or "null"
    path = Path(target)
    return {
        "output": target,
        "samples": count,
        "channels": sound.info.channels,
        "sample_rate": float(rate),
        "output_bytes": path.stat().st_size if path.is_file() else None,
        "samples_per_second": count / seconds,
        "backend": sound.backend,
    }


def _line(report: dict[str, object]) -> str:
    size = f", {megabytes(int(str(report['output_bytes'])))}" if report["output_bytes"] is not None else ""
    name = "nowhere" if report["output"] == "null" else report["output"]
    shape = f"{report['samples']} samples at {report['sample_rate']:g} Hz, {report['channels']} channels"
    return f"wrote {name}: {shape}{size}"
