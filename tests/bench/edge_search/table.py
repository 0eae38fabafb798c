"""The documentation's table of the search behind the Edge family."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

HEADINGS = (
    "compared",
    "variant",
    "PSNR",
    "against the preset",
    "parameters",
    "kMAC a pixel",
    "processor time of a step",
)


def edge_table(records: Iterable[Mapping[str, Any]]) -> str:
    """Every variant with what it gains over the preset, in the order they were tried."""
    lines = []
    for record in records:
        groups: dict[str, list[dict[str, Any]]] = {}
        for r in record["rows"]:
            groups.setdefault(r["model"], []).append(r)
        base = _mean(next(iter(groups.values())), "psnr_db")
        lines += [
            f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}",
            "",
            f"| {' | '.join(HEADINGS)} |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        for name, rows in groups.items():
            quality = _mean(rows, "psnr_db")
            cells = [
                rows[0]["group"],
                name,
                f"{quality:.2f} dB",
                f"{quality - base:+.2f} dB" if rows[0]["group"] else "",
                f"{rows[0]['parameters']:,}",
                f"{rows[0]['kmac_per_pixel']:.1f}",
                f"{_mean(rows, 'step_cpu_ms'):.0f} ms",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _mean(rows: Iterable[Mapping[str, Any]], key: str) -> float:
    return statistics.mean(r[key] for r in rows)
