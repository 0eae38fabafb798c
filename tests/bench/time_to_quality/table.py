"""The documentation's table of quality against training time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.markdown import line_of, mean_of

HEADINGS = (
    "minutes",
    "preset",
    "recipe",
    "float model",
    "file",
    "all int8",
    "bytes",
    "parameters",
    "kMAC a pixel",
    "epochs",
)


def time_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Every preset and recipe at each time, best first; means over seeds with their range. A table for each clip."""
    lines = []
    for record in records:
        clips: dict[str, list[dict[str, Any]]] = {}
        for r in record["rows"]:
            clips.setdefault(r.get("clip", record["protocol"].partition(";")[0]), []).append(r)
        lines += [
            f"{record['hardware']}, {record['cores']} cores, commit {record['commit']}, {record['date']}: "
            f"{record['protocol']}",
            "",
        ]
        for clip, rows in clips.items():
            lines += [*([f"{clip}:", ""] if len(clips) > 1 else []), *_of_a_clip(rows, record), ""]
    return "\n".join(lines)


def _of_a_clip(every: Iterable[dict[str, Any]], record: Mapping[str, Any]) -> list[str]:
    groups: dict[tuple[float, str, str, int], list[dict[str, Any]]] = {}
    for r in every:
        groups.setdefault((r["minutes"], r["model"], r["recipe"], r["threads"]), []).append(r)
    lines = [line_of(HEADINGS), "|--:|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    best_first = sorted(groups.items(), key=lambda g: (g[0][0], -mean_of(g[1], "psnr_db")))
    for (minutes, preset, recipe, _), rows in best_first:
        cores = min(r.get("cores", record["cores"]) for r in rows)
        commits = sorted({r.get("commit", record["commit"]) for r in rows} - {record["commit"]})
        cells = [
            f"{minutes:g}" + f" (on {cores} core)" * (cores < record["cores"]),
            preset,
            recipe + f" (commit {', '.join(commits)})" * bool(commits),
            _decibels(rows, "psnr_float_db"),
            _decibels(rows, "psnr_db"),
            _decibels(rows, "psnr_int8_db"),
            f"{mean_of(rows, 'bytes'):,.0f}",
            f"{rows[0]['parameters']:,}",
            f"{rows[0]['kmac_per_pixel']:.1f}",
            f"{mean_of(rows, 'epochs'):.1f}",
        ]
        lines.append(line_of(cells))
    return lines


def _decibels(rows: list[dict[str, Any]], key: str) -> str:
    values = [r[key] for r in rows if r.get(key) is not None]
    if not values:
        return ""
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f} dB{spread}"
