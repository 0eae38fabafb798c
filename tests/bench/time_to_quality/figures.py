"""Quality against time, and against work and bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from tests.bench.markdown import mean_of

Rows = Sequence[dict[str, Any]]
ENOUGH = 6
"""Models to be worth a comparison of work and bytes."""
COLORS = (*colormaps["tab20"].colors, *colormaps["tab20b"].colors)  # type: ignore[attr-defined]


def draw(rows: Rows, folder: Path, prefix: str, codec: Rows, source_bytes: float) -> None:
    """Write time.png, and work.png of the longest time that `ENOUGH` models have, with a prefix to their names.

    codec: bytes and psnr_db of a classic codec. source_bytes: what the source file spends on the clip's pixels, 0
    where it is not known. Both stand beside the networks' bytes, which compare networks, not codecs.
    """
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    usual = statistics.mode(r["threads"] for r in rows)
    for color, ((model, recipe), chosen) in zip(COLORS, _grouped(rows).items(), strict=False):
        minutes, decibels, threads = zip(*_points(chosen), strict=True)
        axes.plot(minutes, decibels, _mark(recipe), ls="-", color=color, label=f"{model}, {recipe}")
        for x, y, count in zip(minutes, decibels, threads, strict=True):
            if count != usual:
                axes.plot([x], [y], _mark(recipe), color=color, mfc="white")
    hollow = f" (hollow: not on {usual} thread(s))" * any(r["threads"] != usual for r in rows)
    axes.set(xlabel=f"minutes, start-up included{hollow}", ylabel="PSNR of the float model (dB)", xscale="log")
    _plain(axes, sorted({r["minutes"] for r in rows}))
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(folder / f"{prefix}time.png", dpi=110)
    plt.close(figure)
    _draw_work(rows, folder / f"{prefix}work.png", codec, source_bytes)


def _draw_work(rows: Rows, path: Path, codec: Rows, source_bytes: float) -> None:
    models = {t: {r["model"] for r in rows if r["minutes"] == t} for t in {r["minutes"] for r in rows}}
    minutes = max((t for t, found in models.items() if len(found) >= ENOUGH), default=max(models))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    for color, ((model, recipe), chosen) in zip(COLORS, _grouped(rows).items(), strict=False):
        here = [r for r in chosen if r["minutes"] == minutes]
        if not here:
            continue
        quality = statistics.mean(r["psnr_db"] for r in here)
        left.plot([here[0]["kmac_per_pixel"]], [quality], _mark(recipe), color=color, label=f"{model}, {recipe}")
        right.plot([statistics.mean(r["bytes"] for r in here) / 1e3], [quality], _mark(recipe), color=color)
    right.plot([r["bytes"] / 1e3 for r in codec], [r["psnr_db"] for r in codec], "k-", lw=1, label="x265 medium")
    if source_bytes:
        right.axvline(source_bytes / 1e3, color="grey", ls=":", label="rate of the source")
    left.set(xlabel="kMAC per pixel", ylabel=f"PSNR of the file (dB), {minutes:g} min", xscale="log")
    right.set(xlabel="bytes of the file (kB)", xscale="log")
    _plain(left, (5, 10, 20, 50, 100))
    _plain(right, (20, 50, 100, 200, 500, 1000, 2000))
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _points(rows: Rows) -> list[tuple[float, float, int]]:
    """Minutes that were taken, mean PSNR and number of threads of each time that was asked for, in order."""
    groups: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["minutes"], r["threads"]), []).append(r)
    return sorted(
        (mean_of(found, "seconds") / 60, mean_of(found, "psnr_float_db"), threads)
        for (_, threads), found in groups.items()
    )


def _mark(recipe: str) -> str:
    return "o" if recipe.startswith("ours") else "X"


def _plain(axes: Axes, places: Sequence[float]) -> None:
    """Name these places of a logarithmic axis by their numbers."""
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _grouped(rows: Rows) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        groups.setdefault((r["model"], r["recipe"]), []).append(r)
    return groups
