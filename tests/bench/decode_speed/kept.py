"""What was measured of each model, kept in a folder, and all of it as one record.

A slice holds `rows`, the best `peaks` seen meanwhile, the `seconds` that each engine decoded, what was `asked` for, and
where it comes from: `versions`, `commit`, `date`. Slices may be days apart, so a record says of each row which commit
it is of.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Slice = dict[str, Any]
KEYS = {"rows", "peaks", "seconds", "versions", "commit", "date"}
BASELINE = "edge-10"
"""The model whose quality x265 is to have, where it was trained; else the first that was."""


def read_slice(path: Path) -> Slice | None:
    """A kept slice; None where there is none, or one of an older bench, whose figures mean something else."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.keys() >= KEYS else None


def enough(known: Slice, asked: dict[str, Any]) -> bool:
    """Whether a kept slice holds all that is asked for now: engines, as many seconds, and that model and clip if any.

    One of before, which does not say what it was of, is taken as it is.
    """
    had = known.get("asked", asked)
    engines = not had["engines"] or (bool(asked["engines"]) and set(asked["engines"]) <= set(had["engines"]))
    longer = had["compiled"] >= asked["compiled"] and had["seconds"] >= asked["seconds"]
    return engines and longer and all(asked[of] in ("", had[of]) for of in ("model", "source"))


def keep(path: Path, data: Slice) -> None:
    """Write a finished slice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(data, indent=2))
    temporary.replace(path)


def best_peaks(slices: Sequence[Slice]) -> dict[str, float]:
    """GMAC/s of matrix products by precision, the best of all slices: on a busy machine one may see half of it."""
    peaks: dict[str, float] = {}
    for part in slices:
        peaks |= {name: max(gmac, peaks.get(name, 0.0)) for name, gmac in part["peaks"].items()}
    return peaks


def rows_of(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """All rows, each with its commit and its share of the best peak."""
    peaks = best_peaks(slices)
    return [
        {**row, "share_of_peak": _share(row, peaks), "commit": part["commit"]}
        for part in slices
        for row in part["rows"]
    ]


def _share(row: dict[str, Any], peaks: dict[str, float]) -> float | None:
    return row["gmac_per_s"] / peaks[row["precision"]] if row["gmac_per_s"] is not None else None


def origin_of(slices: Sequence[Slice]) -> dict[str, Any]:
    """Where a record comes from: the commit of most rows and its last day, and every version that was in use."""
    commits = Counter(part["commit"] for part in slices for _ in part["rows"])
    ((commit, _),) = commits.most_common(1)
    versions: dict[str, list[str]] = {}
    for part in slices:
        for package, version in part["versions"].items():
            if version not in versions.setdefault(package, []):
                versions[package].append(version)
    return {
        "versions": {package: ", ".join(found) for package, found in versions.items()},
        "commit": commit,
        "date": max(part["date"] for part in slices if part["commit"] == commit),
    }


def quality_to_match(slices: Sequence[Slice]) -> dict[str, Any] | None:
    """The row of a trained model as the CPU plays it in int8; None where nothing was trained."""
    rows = [row for part in slices for row in part["rows"] if (row["engine"], row["precision"]) == ("cpu", "int8")]
    trained = [row for row in rows if row["psnr_db"] is not None]
    return next((row for row in trained if row["model"] == BASELINE), trained[0] if trained else None)
