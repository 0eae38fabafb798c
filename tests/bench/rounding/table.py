"""The documentation's table of what rounding weights costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.bench.markdown import line_of

HEADINGS = ("preset", "bits", "float model", "rounded one by one", "rounded together", "trained for, then rounded")


def rounding_table(records: Iterable[Mapping[str, Any]]) -> str:
    """A line per preset and number of bits."""
    lines = []
    for record in records:
        lines += [
            f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}",
            "",
            line_of(HEADINGS),
            "|---|--:|--:|--:|--:|--:|",
        ]
        for r in record["rows"]:
            cells = [
                r["model"],
                str(r["bits"]),
                f"{r['psnr_float_db']:.2f} dB",
                f"{r['psnr_float_db'] - r['one_by_one_loss_db']:.2f} dB",
                f"{r['psnr_float_db'] - r['together_loss_db']:.2f} dB",
                f"{r['trained_db']:.2f} dB" if "trained_db" in r else "",
            ]
            lines.append(line_of(cells))
        lines.append("")
    return "\n".join(lines)
