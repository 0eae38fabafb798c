"""Entry point of `inr-export`; says what to install where PyTorch is missing."""

from __future__ import annotations

from inr_runtime.cli import run_extra


def main() -> None:
    """Run the command."""
    run_extra("inr_export.command", "pip install 'inr-video[train,export,cpu]'")
