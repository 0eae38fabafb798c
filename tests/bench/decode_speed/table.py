"""The table of decoding speeds, for the terminal and the documentation, and its figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Rows = Sequence[dict[str, Any]]
Columns = Sequence[tuple[str, str, str, float]]
COLUMNS = (
    ("fps", "fps", "{:.1f}", 1.0),
    ("ms p50", "ms_p50", "{:.1f}", 1.0),
    ("ms p99", "ms_p99", "{:.1f}", 1.0),
    ("against PyTorch fp32", "ratio_to_torch_fp32", "{:.2f}x", 1.0),
    ("best PyTorch", "ratio_to_best_torch", "{:.2f}x", 1.0),
    ("GMAC/s", "gmac_per_s", "{:.0f}", 1.0),
    ("of peak", "share_of_peak", "{:.0f} %", 100.0),
    ("PSNR", "psnr_db", "{:.2f} dB", 1.0),
    ("lost", "loss_db", "{:.2f} dB", 1.0),
    ("first frame", "first_frame_ms", "{:.0f} ms", 1.0),
    ("seek", "seek_ms", "{:.0f} ms", 1.0),
    ("open", "open_ms", "{:.0f} ms", 1.0),
    ("memory", "peak_memory_bytes", "{:.0f} MB", 1e-6),
)
MARKS = {"cpu": "o", "openvino": "D", "cuda": "s", "tensorrt": "P", "ffmpeg": "*"}
"""Of engines in the figure; PyTorch has crosses."""
SHADES = {"int8": "tab:blue", "bf16": "tab:orange", "fp16": "tab:orange", "fp32": "tab:green"}
TICKS = (0.3, 1, 3, 10, 30, 100, 300)
NAMES = {"cpu": "ONNX Runtime", "openvino": "OpenVINO", "ffmpeg": "ffmpeg"}


def show(rows: Rows) -> None:
    """Print all rows."""
    table, columns = Table(box=None, pad_edge=False), _filled(rows)
    for name in ("model", "engine", "", *(c[0] for c in columns)):
        table.add_column(name, justify="left" if name in ("model", "engine", "") else "right")
    for row in rows:
        table.add_row(*_cells(row, columns))
    Console(width=180).print(table)


def decode_table(records: Rows) -> str:
    """What every machine measured, in Markdown: PyTorch as research code runs it, its best, and our engines."""
    return _tables(records, _main_rows)


def decode_all_table(records: Rows) -> str:
    """The same with every row."""
    return _tables(records, list)


def profile_table(records: Rows) -> str:
    """Where a frame's time goes on ONNX Runtime in int8."""
    lines: list[str] = []
    for record in records:
        lines += [f"{record['hardware']}, commit {record['commit']}, {record['date']}:", ""]
        lines += ["| model | operators of a frame | convolutions | GMAC/s in them | other operators |"]
        lines += ["|---|--:|--:|--:|---|"]
        for row in record["rows"]:
            if found := row.get("profile"):
                lines += [f"| {row['model']} | {' | '.join(_profile_cells(row, found))} |"]
        lines += [""]
    return "\n".join(lines)


def _tables(records: Rows, choose: Callable[[Rows], Rows]) -> str:
    if not records:
        return "Not measured yet: `python -m tests.bench.decode_speed --record`."
    lines = []
    for record in records:
        about = f"{record['hardware']}, commit {record['commit']}, {record['date']}. {record['protocol']}"
        columns = _filled(record["rows"])
        lines += [about, "", f"| model | engine | arithmetic | {' | '.join(c[0] for c in columns)} |"]
        lines += ["|---|---|---|" + "--:|" * len(columns)]
        lines += [f"| {' | '.join(_cells(row, columns, record['commit']))} |" for row in choose(record["rows"])]
        lines += [""]
    return "\n".join(lines)


def _main_rows(rows: Rows) -> Rows:
    """Of each model: the first and the fastest PyTorch, ONNX Runtime on integers, the fastest OpenVINO."""
    chosen = []
    for model in dict.fromkeys(r["model"] for r in rows):
        mine = [r for r in rows if r["model"] == model]
        torches = [r for r in mine if r["engine"].startswith("torch")]
        openvino = [r for r in mine if r["engine"] == "openvino"]
        best = [max(group, key=lambda r: r["fps_network"]) for group in (torches, openvino) if group]
        others = [r for r in mine if (r["precision"] == "int8" and r["engine"] == "cpu") or r["engine"] == "ffmpeg"]
        wanted = [id(r) for r in (*torches[:1], *best, *others)]
        chosen += [r for r in mine if id(r) in wanted]
    return chosen


def _profile_cells(row: dict[str, Any], found: dict[str, Any]) -> list[str]:
    total = found["ms_per_frame"]
    convolutions = sum(ms for op, ms in found["ms"].items() if "Conv" in op)
    others = sorted(((ms, op) for op, ms in found["ms"].items() if "Conv" not in op), reverse=True)
    words = ", ".join(f"{op} {ms / total:.0%}" for ms, op in others[:5])
    speed = row["gmac_per_frame"] / max(convolutions, 1e-9) * 1e3
    share = speed / (row["gmac_per_s"] / row["share_of_peak"])
    return [f"{total:.1f} ms", f"{convolutions / total:.0%}", f"{speed:.0f} ({share:.0%} of peak)", words]


def _filled(rows: Rows) -> Columns:
    """The columns that some row has a figure for."""
    return [c for c in COLUMNS if any(row.get(c[1]) is not None for row in rows)]


def _cells(row: dict[str, Any], columns: Columns, commit: str | None = None) -> list[str]:
    """commit: of the record; a row of another says so."""
    other = row.get("commit", commit)
    model = row["model"] + (f" (commit {other})" if commit and other != commit else "")
    return [model, NAMES.get(row["engine"], row["engine"]), row["precision"], *(_figure(row, c) for c in columns)]


def _figure(row: dict[str, Any], column: tuple[str, str, str, float]) -> str:
    _, key, text, factor = column
    if row.get(key) is None:
        return ""
    played = row.get("played_frames")
    part = f" ({played} frames)" if key == "fps" and played and played < row["frames"] else ""
    return text.format(row[key] * factor) + part


def draw(rows: Rows, folder: Path) -> None:
    """Write fps.png: a line for each model, a mark for each way to decode it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    ways = list(dict.fromkeys((r["engine"], r["precision"]) for r in rows))
    figure, axis = plt.subplots(figsize=(10, 0.45 * len(models) + 1.6), layout="constrained")
    for engine, precision in ways:
        chosen = [r for r in rows if (r["engine"], r["precision"]) == (engine, precision)]
        places = [models.index(r["model"]) for r in chosen]
        marker, colour = MARKS.get(engine, "x"), SHADES.get(precision, "0.5")
        label = f"{NAMES.get(engine, engine)}, {precision}"
        axis.plot([r["fps"] for r in chosen], places, marker, color=colour, ms=8, alpha=0.8, label=label)
    axis.axvline(25, color="0.6", lw=0.8, ls="--")
    axis.set(xscale="log", xlabel="frames per second from opening the file to its last frame (line: 25)")
    axis.set_xticks(TICKS, [f"{x:g}" for x in TICKS])
    axis.set_yticks(range(len(models)), models)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(folder / "fps.png", dpi=110)
    plt.close(figure)
