"""Quality after so many minutes: every family by its paper's recipe and by ours, at equal time on one machine.

    python -m tests.bench.time_to_quality --video bigbuckbunny.mp4 --size 320x180 --minutes 1 --minutes 5 [--record]

A point is a run of its own with --time-budget: start-up is inside the time. It ends as a .nvb file; bytes and the
second PSNR are the file's. Long points may run side by side, each bound to a core (`taskset -c 0`): rows say `cores`.
Finished points are kept in --work, so that a stopped bench goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tests.bench.record import clip_of, described, gpu_name, recorded, write_results
from tests.bench.time_to_quality.figures import draw
from tests.bench.time_to_quality.points import POINTS, measured


@click.command()
@click.option("--video", help="Clip (default: the embedded excerpt).")
@click.option("--size", help="Scale to WxH.")
@click.option("--minutes", multiple=True, type=float, default=(1.0, 5.0), show_default=True)
@click.option("--seeds", default=1, show_default=True)
@click.option("--only", multiple=True, help="Only this preset, or point ('edge-10, ours'); may be repeated.")
@click.option("--threads", default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("build/time_to_quality"), show_default=True)
@click.option("--record", is_flag=True, help="Write results and plots into the repository, with those already there.")
def main(
    video: str | None,
    size: str | None,
    minutes: Sequence[float],
    seeds: int,
    only: Sequence[str],
    work: Path,
    record: bool,
    **given: Any,
) -> None:
    """Train every point, print one table, draw two figures."""
    clip = clip_of(video, size)
    chosen = [p for p in POINTS if not only or p.preset in only or p.name in only]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("points", total=len(chosen) * len(minutes) * seeds)
        for each in minutes:
            for point in chosen:
                for seed in range(seeds):
                    progress.update(task, description=f"{each:g} min {point.name}")
                    measured(point, clip, each, seed, work, given)
                    progress.advance(task)
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
    show(rows)
    if record:
        gpu = gpu_name(given["device"])
        rows = with_recorded(rows, gpu)
        protocol = (
            f"{described(clip)}; each point a run with that time budget, its "
            "start-up inside. psnr_float_db: as many steps without quantization (_8bit_: its frames in 8 "
            "bits, as those of files are, which costs 0.01 dB at 34 dB). psnr_db: the file as played, "
            "integer weights and float activations, all frames; psnr_int8_db: with integer activations, but of layers "
            "that the exporter keeps in float. bytes: the file without optional text. recipe: the "
            "paper's with its own learning rate or a multiple of it (edge: NeRV's), or ours, `edge` or `muon`, "
            "which differ in learning rates: whichever is better for the network after a few passes over this clip."
        )
        path = write_results("time_to_quality", protocol, rows, gpu)
        draw(rows, path.parent, f"{path.stem}-" if gpu else "", picture_bytes(Path(clip.source)) if video else 0)
        print(path)


def picture_bytes(path: Path) -> int:
    """Of the pictures of a video file, without its sound; 0 for what is no single file."""
    if not path.is_file():
        return 0
    with av.open(str(path)) as container:
        return sum(packet.size for packet in container.demux(video=0))


def with_recorded(rows: Sequence[dict[str, Any]], gpu: str | None = None) -> list[dict[str, Any]]:
    """The rows, and before them those points of this machine's record that they have no seed of."""
    new = {_key(r) for r in rows}
    return [r for r in recorded("time_to_quality", gpu) if _key(r) not in new] + list(rows)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("model", "recipe", "minutes"))


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A line per point."""
    table = Table("minutes", "preset", "recipe", "seed", "float", "file", "bytes", "epochs", "seconds", box=None)
    for r in sorted(rows, key=lambda r: (r["minutes"], r["model"], r["recipe"], r["seed"])):
        quality = (f"{r['psnr_float_db']:.2f}", f"{r['psnr_db']:.2f}", f"{r['bytes']:,}", f"{r['epochs']:.1f}")
        table.add_row(f"{r['minutes']:g}", r["model"], r["recipe"], str(r["seed"]), *quality, f"{r['seconds']:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
