"""The table of decoding speeds, for the terminal and the documentation, and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = Sequence[dict[str, Any]]
COLUMNS = (
    ("fps", "fps", "{:.1f}", 1.0),
    ("ms p50", "ms_p50", "{:.1f}", 1.0),
    ("ms p99", "ms_p99", "{:.1f}", 1.0),
    ("against PyTorch fp32", "ratio_to_torch_fp32", "{:.2f}x", 1.0),
    ("best PyTorch", "ratio_to_best_torch", "{:.2f}x", 1.0),
    ("GMAC/s", "gmac_per_s", "{:.0f}", 1.0),
    ("of peak", "share_of_peak", "{:.0f} %", 100.0),
    ("PSNR", "psnr_db", "{:.2f} dB", 1.0),
    ("first frame", "first_frame_ms", "{:.0f} ms", 1.0),
    ("seek", "seek_ms", "{:.0f} ms", 1.0),
    ("open", "open_ms", "{:.0f} ms", 1.0),
    ("memory", "peak_memory_bytes", "{:.0f} MB", 1e-6),
)
NAMES = {"cpu": "ONNX Runtime", "openvino": "OpenVINO", "ffmpeg": "ffmpeg"}


def show(rows: Rows) -> None:
    """Print all rows."""
    table = Table(box=None, pad_edge=False)
    for name in ("model", "engine", "", *(c[0] for c in COLUMNS)):
        table.add_column(name, justify="left" if name in ("model", "engine", "") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console(width=180).print(table)


def decode_table(records: Rows) -> str:
    """What every machine measured, in Markdown."""
    if not records:
        return "Not measured yet: `python -m tests.bench.decode_speed --record`."
    lines = []
    for record in records:
        about = f"{record['hardware']}, commit {record['commit']}, {record['date']}. {record['protocol']}"
        lines += [about, "", f"| model | engine | arithmetic | {' | '.join(c[0] for c in COLUMNS)} |"]
        lines += ["|---|---|---|" + "--:|" * len(COLUMNS)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in record["rows"]]
        lines += [""]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    figures = ["" if row[key] is None else text.format(row[key] * factor) for _, key, text, factor in COLUMNS]
    return [row["model"], NAMES.get(row["engine"], row["engine"]), row["precision"], *figures]


def draw(rows: Rows, folder: Path) -> None:
    """Write fps.png: a group of bars for each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    figure, axes = plt.subplots(1, len(models), figsize=(2.6 * len(models), 3.6), layout="constrained", squeeze=False)
    for axis, model in zip(axes[0], models, strict=True):
        chosen = [r for r in rows if r["model"] == model]
        names = [f"{NAMES.get(r['engine'], r['engine'])} {r['precision']}" for r in chosen]
        colours = ["0.6" if r["engine"].startswith("torch") else "tab:blue" for r in chosen]
        axis.bar(range(len(chosen)), [r["fps"] for r in chosen], color=colours)
        axis.set_xticks(range(len(chosen)), names, rotation=90, fontsize=6)
        axis.set(title=model, ylabel="frames per second, end to end" if model == models[0] else "")
    figure.savefig(folder / "fps.png", dpi=110)
    plt.close(figure)
