"""Turn a trained model into a .nvb file and prove that it plays.

Names are imported when they are first used, so that the command can say what is missing where PyTorch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inr_export.export import ExportReport, export, export_onnx
    from inr_export.verify import Verification

_HOMES = {"ExportReport": "export", "Verification": "verify", "export": "export", "export_onnx": "export"}

__all__ = ["ExportReport", "Verification", "export", "export_onnx"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'inr_export' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"inr_export.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
