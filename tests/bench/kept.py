"""Results that a bench keeps in a folder, so that a stopped one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from inr_runtime.files import replacing


def kept_path(work: Path, name: str, asked: Any) -> Path:
    """Where the result called `name` stands. asked: all that it depends on, in plain types; else it is another's."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    return work / ("".join(c if c.isalnum() else "_" for c in f"{name}-{digest}") + ".json")


def kept(path: Path) -> dict[str, Any] | None:
    """The result that stands there; None where there is none."""
    return dict(json.loads(path.read_text())) if path.exists() else None


def keep(path: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Write a result, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(row))
    return row
