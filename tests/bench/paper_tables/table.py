"""Documentation tables: the papers' numbers beside ours. An empty cell was not measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.paper_tables.rows import ROWS, TABLES, Row

Result = Mapping[str, Any]
TITLES = {
    "bunny": "Big Buck Bunny",
    "nerv_ablations": "NeRV's ablations",
    "hinerv_ablations": "HiNeRV's ablations",
    "hinerv_patches": "HiNeRV on frames and on patches",
}


def paper_tables(records: Iterable[Mapping[str, Any]]) -> str:
    """One table for each of the papers' tables; ours from all recorded runs, on whatever hardware."""
    records = list(records)
    results = [r for record in records for r in record["rows"]]
    lines = [
        f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}" for record in records
    ]
    for table in TABLES:
        rows = [r for r in ROWS if r.table == table]
        lines += ["", f"### {TITLES[table]}", "", *_table(rows, [r for r in results if r["table"] == table])]
    return "\n".join(lines)


def _table(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    lines = [
        "| row | paper | tolerance | ours, full | ours, reduced | against the first | parameters | GMAC |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    first = _runs(results, rows[0], "reduced")
    for row in rows:
        reduced, full = (_runs(results, row, kind) for kind in ("reduced", "full"))
        facts = next(iter((*full, *reduced)), None)
        sizes = "| | |" if facts is None else f"| {facts['parameters']:,} | {facts['gmac_per_frame']:.3f} |"
        published = "" if row.published is None else f"{row.published:.2f} dB"
        verdict = _verdict(row, rows[0], reduced, first) if row is not rows[0] else ""
        lines.append(
            f"| {row.name} | {published} | {row.tolerance:g} dB | {_mean(full)} | {_mean(reduced)} | {verdict} {sizes}"
        )
    return lines


def _runs(results: Sequence[Result], row: Row, kind: str) -> list[Result]:
    return [r for r in results if r["row"] == row.name and r["protocol"] == kind]


def _mean(runs: Sequence[Result]) -> str:
    if not runs:
        return ""
    values = [r["psnr_db"] for r in runs]
    spread = f" ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)" if len(values) > 1 else " (1 seed)"
    return f"{statistics.mean(values):.2f} dB{spread}"


def _verdict(row: Row, first: Row, runs: Sequence[Result], base: Sequence[Result]) -> str:
    """Does the sign of the difference agree with the paper's? Within the seeds' spread it is undecided."""
    if row.table == "bunny" or not runs or not base or row.published is None or first.published is None:
        return ""
    ours, theirs = [r["psnr_db"] for r in runs], [r["psnr_db"] for r in base]
    difference = statistics.mean(ours) - statistics.mean(theirs)
    published = row.published - first.published
    if min(ours) <= max(theirs) and min(theirs) <= max(ours):
        word = "undecided"
    else:
        word = "agrees" if (difference > 0) == (published > 0) else "differs"
    return f"{difference:+.2f} dB (paper {published:+.2f}): {word}"
