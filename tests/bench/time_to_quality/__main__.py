"""Quality after so many minutes: every family by its paper's recipe and by ours, at equal time on one machine.

    python -m tests.bench.time_to_quality --video bigbuckbunny.mp4 --size 320x180 --minutes 1 --minutes 5 [--record]

A point is a run of its own with --time-budget: start-up is inside the time. It ends as a .nvb file; bytes and the
second PSNR are the file's. Long points may run side by side, each bound to a core (`taskset -c 0`): rows say `cores`.
Finished points are kept in --work, so that a stopped bench goes on where it was; all of this clip, device and number
of threads are in the table and the record, also with `--only nothing`.
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
from tests.bench.anchors import x265_curve
from tests.bench.record import clip_of, commit, described, gpu_name, recorded, write_results
from tests.bench.time_to_quality.figures import draw
from tests.bench.time_to_quality.points import POINTS, measured

from inr_train import Clip
from inr_train.start import choose_device

CODEC_CRFS = (12, 17, 22, 27, 32, 37)
PROTOCOL = (
    "{clips}; each point a run with that time budget, its start-up inside: seconds, and process_seconds of the "
    "processor. psnr_float_db: as many steps without quantization (_8bit_: its frames in 8 bits, as those of files "
    "are, which costs 0.01 dB at 34 dB). psnr_db: the file as played, integer weights and float activations, all "
    "frames; psnr_int8_db: with integer activations, but of layers that the exporter keeps in float. bytes: the file "
    "without optional text. recipe: the paper's with its own learning rate or a multiple of it (edge: NeRV's), or "
    "ours, `edge` or `muon`, which differ in learning rates: whichever is better for the network after a few passes "
    "over this clip. x265 (of the figure): the same pictures made 4:2:0 again, medium, tune=psnr, keyint 250, bytes of "
    "the stream. source_bytes: what the source file spends on so many pixels."
)
Row = dict[str, Any]


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
    commit()  # remembered: what runs is what is checked out now
    clip, rows = clip_of(video, size), []
    chosen = [p for p in POINTS if not only or p.preset in only or p.name in only]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("points", total=len(chosen) * len(minutes) * seeds)
        for each in minutes:
            for point in chosen:
                for seed in range(seeds):
                    progress.update(task, description=f"{each:g} min {point.name}")
                    rows.append(measured(point, clip, each, seed, work, given))
                    progress.advance(task)
    rows = with_finished(rows, work, clip, given)
    show(rows)
    if record:
        write(with_other_points(rows, gpu_name(given["device"])), clip, video is not None, gpu_name(given["device"]))


def write(rows: Sequence[Row], clip: Clip, of_file: bool, gpu: str | None) -> None:
    """Write the record of all rows, and the figures of this clip's. of_file: the source's own rate is known."""
    protocol = PROTOCOL.format(clips=" and ".join(sorted({row["clip"] for row in rows})))
    codec, source = x265_curve(clip, CODEC_CRFS), source_bytes(clip) if of_file else 0.0
    path = write_results("time_to_quality", protocol, rows, gpu, x265=codec, source_bytes=source)
    of_clip = [row for row in rows if row["clip"] == described(clip)]
    draw(of_clip, path.parent, f"{path.stem}-" if gpu else "", codec, source)
    print(path)


def source_bytes(clip: Clip) -> float:
    """What the source file spends on as many pixels as the clip has, without sound; 0 for what is no single file."""
    path = Path(clip.source)
    if not path.is_file():
        return 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet.size for packet in container.demux(stream) if packet.size]
        pixels = stream.width * stream.height * len(packets)
    return sum(packets) / pixels * clip.frames[..., 0].size


def with_finished(rows: Sequence[Row], work: Path, clip: Clip, given: dict[str, Any]) -> list[Row]:
    """The rows, and what else is finished in `work` of this clip, device and number of threads: of each run the newest.

    What was kept by a bench of before does not say its clip and device; it is taken for these.
    """
    device = choose_device(given["device"]).type
    found: dict[tuple[Any, ...], Row] = {}
    for path in sorted(work.glob("*.json"), key=lambda path: path.stat().st_mtime):
        row = {"clip": described(clip), "device": device, **json.loads(path.read_text())}
        if (row["clip"], row["device"]) == (described(clip), device) and given["threads"] in (0, row["threads"]):
            found[_run(row)] = row
    return list((found | {_run(row): row for row in rows}).values())


def with_other_points(rows: Sequence[Row], gpu: str | None = None) -> list[Row]:
    """The rows, and before them those points of this machine's record that they have no seed of."""
    new = {_point(row) for row in rows}
    return [row for row in recorded("time_to_quality", gpu) if _point(row) not in new] + list(rows)


def _point(row: Row) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("clip", "threads", "model", "recipe", "minutes"))


def _run(row: Row) -> tuple[Any, ...]:
    return (*_point(row), row["seed"])


def show(rows: Sequence[Row]) -> None:
    """A line per point."""
    table = Table("minutes", "preset", "recipe", "seed", "float", "file", "bytes", "epochs", "seconds", box=None)
    for r in sorted(rows, key=lambda r: (r["minutes"], r["model"], r["recipe"], r["seed"])):
        quality = (f"{r['psnr_float_db']:.2f}", f"{r['psnr_db']:.2f}", f"{r['bytes']:,}", f"{r['epochs']:.1f}")
        table.add_row(f"{r['minutes']:g}", r["model"], r["recipe"], str(r["seed"]), *quality, f"{r['seconds']:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
