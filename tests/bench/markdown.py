"""What the documentation's tables have in common."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any


def line_of(cells: Iterable[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def mean_of(rows: Iterable[Mapping[str, Any]], key: str) -> float:
    """Of a figure over results."""
    return statistics.mean(r[key] for r in rows)
