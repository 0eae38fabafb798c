"""The two figures: PSNR and bytes against sparsity, and against bits."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Rows = list[dict[str, Any]]


def draw(rows: Rows, folder: Path) -> None:
    """Write sparsity.png and bits.png."""
    magnitude = [r for r in rows if r["curve"] == "sparsity" and not r["power"]]
    adaptive = [r for r in rows if r["curve"] == "sparsity" and r["power"]]
    bits = [r for r in rows if r["curve"] == "bits"]
    _figure(
        folder / "sparsity.png",
        "sparsity",
        "share of the prunable weights that are zero",
        {
            "magnitude, fine-tuned": [r for r in magnitude if r["tuned"]],
            "magnitude": [r for r in magnitude if not r["tuned"]],
            "adaptive, fine-tuned": [r for r in adaptive if r["tuned"]],
            "adaptive": [r for r in adaptive if not r["tuned"]],
        },
    )
    _figure(
        folder / "bits.png",
        "weight_bits",
        "bits of the weights",
        {
            "quantization-aware": [r for r in bits if r["tuned"]],
            "after training": [r for r in bits if not r["tuned"]],
        },
    )


def _figure(path: Path, x: str, label: str, lines: dict[str, Rows]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for name, rows in lines.items():
        _line(left, rows, x, "psnr_db", name)
    _line(right, next(iter(lines.values())), x, "bits_per_pixel", "the file")
    _line(right, next(iter(lines.values())), x, "hnerv_bits_per_pixel", "as HNeRV counts")
    _line(right, next(iter(lines.values())), x, "nerv_bits_per_pixel", "as NeRV counts")
    left.set(xlabel=label, ylabel="PSNR of the decoded file (dB)")
    right.set(xlabel=label, ylabel="bits per pixel")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(axes: Axes, rows: Rows, x: str, y: str, label: str) -> None:
    """The mean over seeds; a band from the lowest to the highest."""
    places = sorted({r[x] for r in rows})
    values = [[r[y] for r in rows if r[x] == place] for place in places]
    (line,) = axes.plot(places, [statistics.mean(v) for v in values], marker="o", ms=3, label=label)
    axes.fill_between(places, [min(v) for v in values], [max(v) for v in values], color=line.get_color(), alpha=0.15)
