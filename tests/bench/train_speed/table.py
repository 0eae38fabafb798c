"""The table of what a training step costs, for the terminal and the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.markdown import line_of

HEADINGS = (
    "preset",
    "threads",
    "way",
    "optimizer",
    "a step",
    "nine of ten below",
    "against fp32 NCHW",
    "optimizer's part",
    "compiling",
)


def steps_table(records: Iterable[Mapping[str, Any]]) -> str:
    """A line per preset, number of threads and way to compute a step."""
    lines = []
    for record in records:
        lines += [
            f"{record['hardware']}, {record['cores']} cores, commit {record['commit']}, {record['date']}: "
            f"{record['protocol']}",
            "",
            line_of(HEADINGS),
            "|---|--:|---|---|--:|--:|--:|--:|--:|",
            *(line_of(cells_of(row)) for row in record["rows"]),
            "",
        ]
    return "\n".join(lines)


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """The cells of a line."""
    return [
        row["model"],
        str(row["threads"]),
        row["way"],
        row["optimizer"],
        f"{row['step_ms_p50']:.1f} ms",
        f"{row['step_ms_p90']:.1f} ms",
        f"{row['ratio']:.2f}x",
        f"{row['optimizer_ms_p50']:.1f} ms",
        f"{row['compile_seconds']:.0f} s" if row["compile_seconds"] is not None else "",
    ]
