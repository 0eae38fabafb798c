"""Which engines are installed here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from inr_runtime.backends import BACKENDS


def list_backends() -> list[dict[str, Any]]:
    """One row per known engine, best first: `backend`, `available`, and its `version` or None."""
    rows = []
    for name in BACKENDS:
        version = _version_of(name)
        rows.append({"backend": name, "available": version is not None, "version": version})
    return rows


def _version_of(module: str) -> str | None:
    try:
        return str(import_module(module).__version__)
    except ImportError:
        return None
