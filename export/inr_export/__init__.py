"""Turn a trained model into a .nvb file and prove that it plays.

Names are imported when they are first used, so that the command can say what is missing where PyTorch is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inr_runtime.lazy import lazy_names

if TYPE_CHECKING:
    from inr_export.pipeline import ExportReport, export, export_onnx
    from inr_export.verify import Verification

_HOMES = {"ExportReport": "pipeline", "Verification": "verify", "export": "pipeline", "export_onnx": "pipeline"}

__all__ = ["ExportReport", "Verification", "export", "export_onnx"]

__getattr__ = lazy_names(__name__, _HOMES)
