"""The documentation's table of the search behind the Edge family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.markdown import line_of, mean_of

HEADINGS = (
    "compared",
    "variant",
    "PSNR",
    "against the preset",
    "lost in int8",
    "bytes",
    "parameters",
    "kMAC a pixel",
    "processor time of the run, a step",
)
BASE = "edge-10"


def edge_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Every variant with what it gains over the preset, in the order they were tried; a table for each clip.

    Where the preset itself was not measured, there is nothing to compare with.
    """
    lines = []
    for record in records:
        lines += [f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}", ""]
        clips: dict[str, list[dict[str, Any]]] = {}
        for r in record["rows"]:
            clips.setdefault(f"{r['clip']}, {r['epochs']:g} epochs", []).append(r)
        for clip, rows in clips.items():
            commits = sorted({r.get("commit", record["commit"]) for r in rows} - {record["commit"]})
            lines += [clip + f" (commit {', '.join(commits)})" * bool(commits) + ":", "", *_of_a_clip(rows), ""]
    return "\n".join(lines)


def _lost(rows: list[Mapping[str, Any]]) -> str:
    if "psnr_int8_db" not in rows[0]:  # older searches trained float models only
        return ""
    return f"{mean_of(rows, 'psnr_8bit_db') - mean_of(rows, 'psnr_int8_db'):.2f} dB"


def _of_a_clip(every: Iterable[Mapping[str, Any]]) -> list[str]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for r in every:
        groups.setdefault(r["model"], []).append(r)
    base = mean_of(groups[BASE], "psnr_db") if BASE in groups else None
    lines = [line_of(HEADINGS), "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name, rows in groups.items():
        quality = mean_of(rows, "psnr_db")
        cells = [
            rows[0]["group"],
            name,
            f"{quality:.2f} dB",
            f"{quality - base:+.2f} dB" if base is not None and name != BASE else "",
            _lost(rows),
            f"{mean_of(rows, 'bytes'):,.0f}" if "bytes" in rows[0] else "",
            f"{rows[0]['parameters']:,}",
            f"{rows[0]['kmac_per_pixel']:.1f}",
            f"{mean_of(rows, 'step_cpu_ms'):.0f} ms",
        ]
        lines.append(line_of(cells))
    return lines
