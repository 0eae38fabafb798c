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
        base = mean_of(next(iter(groups.values())), "psnr_db")
        lines += [
            f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}",
            "",
            line_of(HEADINGS),
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        for name, rows in groups.items():
            quality = mean_of(rows, "psnr_db")
            cells = [
                rows[0]["group"],
                name,
                f"{quality:.2f} dB",
                f"{quality - base:+.2f} dB" if rows[0]["group"] else "",
                f"{rows[0]['parameters']:,}",
                f"{rows[0]['kmac_per_pixel']:.1f}",
                f"{mean_of(rows, 'step_cpu_ms'):.0f} ms",
            ]
            lines.append(line_of(cells))
        lines.append("")
    return "\n".join(lines)
