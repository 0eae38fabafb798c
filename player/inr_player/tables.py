"""Facts as tables for people; on stdout, since they are what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from inr_runtime.cli import megabytes
from inr_runtime.console import PipedConsole


def show_info(facts: Mapping[str, Any]) -> None:
    """Print what `inspect.describe` found: the file, and the tensors of its first segment."""
    console = PipedConsole()
    console.print(_file_table(facts))
    if len(facts["segments"]) > 1:
        console.print(_segment_table(facts["segments"]))
    console.print(_tensor_table(facts))


def show_backends(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the known engines, best first: what is there, or why it is not."""
    table = _table("engine", "version", "")
    table.columns[2].overflow = "fold"
    for row in rows:
        words = row["reason"] or row.get("plays") or row["device"]
        table.add_row(row["backend"], row["version"] or "not here", words)
    PipedConsole().print(table)


def show_profile(facts: Mapping[str, Any]) -> None:
    """Print what `profile.profile` measured: types of operators, then the operators that take 1 % or more."""
    console = PipedConsole()
    operators = _table("operator", "ms", "share", "count", right=(1, 2, 3))
    for row in facts["operators"]:
        if row["share"] >= 0.001:
            operators.add_row(row["op"], f"{row['ms']:.2f}", f"{row['share']:.1%}", str(row["count"]))
    layers = _table("layer", "operator", "result", "ms", "share", right=(3, 4))
    for row in facts["layers"]:
        if row["share"] >= 0.01:
            shape = "x".join(map(str, row["shape"]))
            layers.add_row(row["name"], row["op"], shape, f"{row['ms']:.2f}", f"{row['share']:.1%}")
    console.print(operators)
    console.print(layers)
    whole = f"{facts['ms_per_frame']:.1f} ms per frame, {facts['convolutions']:.0%} of it convolutions"
    console.print(f"{whole}; {facts['backend']}, {facts['threads']} threads")


def _file_table(facts: Mapping[str, Any]) -> Table:
    rate = f"{facts['fps']:.6g} fps{' on average' if facts['variable_rate'] else ''}"
    shown = {
        "size": f"{facts['width']}x{facts['height']}, {facts['matrix']}",
        "frames": f"{facts['frames']} at {rate}, {facts['duration_s']:.2f} s",
    }
    if facts["media"] == "audio":
        shape = f"{facts['channels']} channels at {facts['sample_rate']:g} Hz"
        shown = {"sound": f"{facts['samples']} samples, {shape}, {facts['duration_s']:.2f} s"}
    rows = {
        "file": facts["file"],
        **shown,
        "bytes": f"{facts['bytes']} ({megabytes(facts['bytes'])}), {facts['bits_per_pixel']:.4f} bits per pixel",
        "model": f"{facts['model']}, {facts['parameters']} parameters",
        "graph": f"{facts['operators']} operators, {facts['gmac_per_frame']:.3g} GMAC per frame",
        "int8": f"{facts['int8_mac_share']:.0%} of the multiply-accumulates",
        "targets": ", ".join(facts["targets"]),
        "segments": str(len(facts["segments"])),
        **{f"meta {key}": value for key, value in facts["meta"].items()},
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _segment_table(segments: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("segment", "first frame", "frames", "bytes", "parameters", right=(1, 2, 3, 4))
    for number, row in enumerate(segments):
        figures = (row[key] for key in ("first_frame", "frames", "bytes", "parameters"))
        table.add_row(str(number), *map(str, figures))
    return table


def _tensor_table(facts: Mapping[str, Any]) -> Table:
    table = _table("tensor", "shape", "coder", "bits", "bits per symbol", right=(3, 4))
    for row in (r for r in facts["tensors"] if r["segment"] == 0):
        shape = "x".join(map(str, row["shape"]))
        table.add_row(row["name"], shape, row["coder"], f"{row['bits']:.0f}", f"{row['bits_per_symbol']:.2f}")
    if len(facts["segments"]) > 1:
        table.caption = "tensors of segment 0; --json lists all"
    return table


def _table(*columns: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number in right else "left")
    return table
