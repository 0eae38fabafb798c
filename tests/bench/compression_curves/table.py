"""The documentation's table of the compression curves: means over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.markdown import line_of, mean_of

Row = Mapping[str, Any]
_LEFT_OUT = ("mask_bytes", "scale_bytes", "table_bytes", "bias_bytes", "container_bytes")


def compression_table(records: Iterable[Row]) -> str:
    """PSNR with and without fine-tuning, the file's rate, and what the papers' rates leave out of it."""
    lines = []
    for record in records:
        rows = record["rows"]
        lines += [
            f"{record['hardware']}, commit {record['commit']}, {record['date']}. {record['protocol']}",
            "",
            "| pruned | bits | PSNR, tuned | PSNR, not tuned | bytes | bpp | bpp as NeRV counts | as HNeRV counts "
            "| where zeros are | scales | tables | biases | graph and header |",
            "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for sparsity, bits in sorted({(r["sparsity"], -r["weight_bits"]) for r in rows}):
            curves = ("sparsity",) if bits == -8 else ("bits", "both")
            same = [r for r in rows if r["curve"] in curves and not r["power"]]
            same = [r for r in same if (r["sparsity"], r["weight_bits"]) == (sparsity, -bits)]
            lines.append(_line(sparsity, -bits, same))
        lines += ["", *_adaptive(rows), ""]
    return "\n".join(lines)


def _line(sparsity: float, bits: int, rows: list[Row]) -> str:
    tuned, plain = [r for r in rows if r["tuned"]], [r for r in rows if not r["tuned"]]
    rates = ("bits_per_pixel", "nerv_bits_per_pixel", "hnerv_bits_per_pixel")
    cells = [
        f"{sparsity:.0%}",
        str(bits),
        _decibels(tuned),
        _decibels(plain),
        f"{mean_of(tuned, 'bytes'):,.0f}",
        *(f"{mean_of(tuned, key):.3f}" for key in rates),
        *(f"{mean_of(tuned, key):,.0f}" for key in _LEFT_OUT),
    ]
    return line_of(cells)


def _adaptive(rows: list[Row]) -> list[str]:
    """Magnitude against adaptive pruning at 8 bits; a difference within the seeds' spread is undecided."""
    chosen = [r for r in rows if r["curve"] == "sparsity" and r["sparsity"]]
    lines = [
        "| pruned, 8 bits | \\|w\\|, tuned | \\|w\\|/P^0.5, tuned | difference over seeds | \\|w\\| | \\|w\\|/P^0.5 |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for sparsity in sorted({r["sparsity"] for r in chosen}):
        here = [r for r in chosen if r["sparsity"] == sparsity]
        kinds = [[r for r in here if bool(r["power"]) == p and r["tuned"] == t] for t in (True, False) for p in (0, 1)]
        gains = [next(a["psnr_db"] for a in kinds[1] if a["seed"] == m["seed"]) - m["psnr_db"] for m in kinds[0]]
        decided = "" if min(gains) > 0 or max(gains) < 0 else ", undecided"
        cells = [_decibels(k) for k in kinds]
        lines.append(
            f"| {sparsity:.0%} | {cells[0]} | {cells[1]} | {min(gains):+.2f} to {max(gains):+.2f} dB{decided} "
            f"| {cells[2]} | {cells[3]} |"
        )
    return lines


def _decibels(rows: list[Row]) -> str:
    return f"{mean_of(rows, 'psnr_db'):.2f} dB" if rows else ""
