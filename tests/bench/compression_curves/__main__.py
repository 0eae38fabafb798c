"""PSNR and bytes against sparsity and against weight bits, with and without fine-tuning (NeRV paper, figures 4 and 5).

    python -m tests.bench.compression_curves [--preset nerv-xs] [--video FILE --size WxH --frames N] [--record]

One float model a seed is trained; every point starts from it and ends as a file that the runtime decodes. Finished
points are kept in --work, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tests.bench.compression_curves.figures import draw
from tests.bench.compression_curves.points import POINTS, Bench
from tests.bench.record import write_results

from inr_runtime.media import ReadOptions, parse_size
from inr_train import Clip, excerpt


@click.command()
@click.option("--preset", default="nerv-xs", show_default=True)
@click.option("--video", help="Clip (default: the embedded excerpt).")
@click.option("--size", help="Scale to WxH.")
@click.option("--frames", type=int)
@click.option("--epochs", default=150, show_default=True, help="Of the float model.")
@click.option("--tuning-epochs", default=20, show_default=True, help="After pruning, or with quantization imitated.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/compression_curves"), show_default=True)
@click.option("--record", is_flag=True, help="Write results and plots into the repository.")
def main(
    preset: str,
    video: str | None,
    size: str | None,
    frames: int | None,
    epochs: int,
    tuning_epochs: int,
    seeds: int,
    threads: int,
    work: Path,
    record: bool,
) -> None:
    """Make every point, print one table, draw two figures."""
    options = ReadOptions(size=parse_size(size) if size else None, frames=frames)
    clip = Clip.read(video, options) if video else excerpt()
    bench = Bench(clip, preset, epochs, tuning_epochs, threads, work)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("points", total=len(POINTS) * seeds)
        for seed in range(seeds):
            for point in POINTS:
                progress.update(task, description=f"seed {seed} {point.key}")
                rows.append(bench.row(point, seed))
                progress.advance(task)
    show(rows)
    protocol = (
        f"{preset} on {Path(clip.source).name}, {len(clip)} frames of {clip.info.width}x{clip.info.height}: {epochs} "
        f"epochs without compression, then {tuning_epochs} epochs of fine-tuning where a point is tuned (curve "
        "sparsity: pruned at once, float, stored with 8 bits; curve bits: half of it imitating the integers; both: "
        "pruned, then imitating them). psnr_db: every frame of the file decoded by the runtime, float activations, "
        "against the source. bytes: the file without optional text. zeros: share among stored weights but biases. "
        f"{seeds} seeds; bf16, {threads} thread(s)."
    )
    if record:
        path = write_results("compression_curves", protocol, rows)
        draw(rows, path.parent)
        print(path)


def show(rows: list[dict[str, Any]]) -> None:
    """Means over seeds."""
    table = Table(
        "curve", "pruned", "bits", "by", "tuned", "PSNR", "spread", "bytes", "bpp", "NeRV's", "HNeRV's", box=None
    )
    for point in POINTS:
        chosen = [r for r in rows if all(r[k] == v for k, v in vars(point).items())]
        mean = {k: statistics.mean(r[k] for r in chosen) for k in ("psnr_db", "bytes")}
        rates = [
            f"{statistics.mean(r[k] for r in chosen):.3f}"
            for k in ("bits_per_pixel", "nerv_bits_per_pixel", "hnerv_bits_per_pixel")
        ]
        spread = max(r["psnr_db"] for r in chosen) - min(r["psnr_db"] for r in chosen)
        table.add_row(
            point.curve,
            f"{point.sparsity:.0%}",
            str(point.weight_bits),
            f"|w|/P^{point.power:g}" if point.power else "|w|",
            "yes" if point.tuned else "no",
            f"{mean['psnr_db']:.2f}",
            f"{spread:.2f}",
            f"{mean['bytes']:,.0f}",
            *rates,
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
