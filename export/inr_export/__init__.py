"""Turn a trained model into a .nvb file and prove that it plays."""

from inr_export.export import ExportReport, export, export_onnx
from inr_export.verify import Verification

__all__ = ["ExportReport", "Verification", "export", "export_onnx"]
