"""Tables of the documentation, made from result files: `python -m tests.bench.tables` rewrites them.

A table stands between `<!-- table NAME -->` and `<!-- end -->`; a test fails when it differs from its results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.compression_curves.table import compression_table
from tests.bench.decode_speed.table import decode_all_table, decode_table, profile_table
from tests.bench.edge_search.table import edge_table
from tests.bench.paper_tables.table import paper_tables
from tests.bench.rounding.table import rounding_table
from tests.bench.time_to_quality.table import time_table
from tests.bench.train_speed.table import steps_table

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("tables", "training-fast", "decode-speed")),
)
RESULTS = Path(__file__).parent / "results"
_MARK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def results(bench: str) -> list[dict[str, Any]]:
    """Every result file of a bench, one per hardware."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / bench).glob("*.json"))]


def demo_table() -> str:
    """What `make demo` printed on each machine."""
    lines = []
    for record in results("demo"):
        (r,) = record["rows"]
        x265_rate = r["bits_per_pixel"] * r["x265_bytes_at_psnr"] / r["bytes"]
        lines += [
            f"{record['hardware']}, {record['cores']} cores, commit {record['commit']}, {record['date']}:",
            "",
            "| | inr-video | x265 (medium, tune=psnr) of at least that PSNR |",
            "|---|--:|--:|",
            f"| parameters | {r['parameters']:,} | |",
            f"| bytes on disk | {r['bytes']:,} | {r['x265_bytes_at_psnr']:,} |",
            f"| bits per pixel | {r['bits_per_pixel']:.3f} | {x265_rate:.3f} |",
            f"| PSNR of the float model | {r['psnr_model_db']:.2f} dB | |",
            f"| PSNR of the file, int8 weights, float activations | {r['psnr_file_fp32_db']:.2f} dB | |",
            f"| PSNR of the file as played, all int8 | {r['psnr_file_db']:.2f} dB | {r['x265_psnr_db']:.2f} dB |",
            f"| MS-SSIM of the file as played | {r['ms_ssim']:.4f} | |" if r["ms_ssim"] else "",
            f"| decoding, end to end | {r['decode_fps']:.0f} fps | |",
            f"| training | {r['train_seconds']:.0f} s | |",
            "",
        ]
    return "\n".join(lines)


def entropy_table() -> str:
    """Speed and overhead of the entropy coder on one thread."""
    lines = [
        "| hardware | symbols | over the ideal code length | encode | decode |",
        "|---|--:|--:|--:|--:|",
    ]
    for record in results("entropy_speed"):
        for r in record["rows"]:
            speeds = f"{r['encode_msym_per_s']:.1f} M/s | {r['decode_msym_per_s']:.1f} M/s"
            lines.append(f"| {record['hardware']} | {r['symbols']:,} | {r['overhead_percent']:.2f} % | {speeds} |")
    return "\n".join(lines)


def mutations_table() -> str:
    """What became of mutated files: those whose checksums were left alone, and those that were signed again."""
    lines = [
        "| mutated files | refused | played as before | refused for the thumbnail | other frames | failures "
        "| slowest | memory |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    counts = ("refused", "identical", "wrong_picture_refused", "decoded_resigned", "failures")
    for record in results("mutations"):
        for anew, name in ((False, "checksums as they were"), (True, "checksums or digests made anew")):
            rows = [r for r in record["rows"] if r["checksums_made_anew"] is anew]
            sums = " | ".join(f"{sum(r[key] for r in rows):,}" for key in counts)
            slowest, files = max(r["slowest_ms"] for r in rows), sum(r["files"] for r in rows)
            memory = max(r["peak_memory_bytes"] for r in rows) / 1e6
            lines.append(f"| {files:,} with {name} | {sums} | {slowest:.0f} ms | {memory:.0f} MB |")
    return "\n".join(lines)


def batches_table() -> str:
    """Milliseconds a frame in runs of so many frames, and when the fastest of them has paid for its engine."""
    lines = []
    for record in results("batches"):
        groups: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
        for r in record["rows"]:
            groups.setdefault((r["model"], r["size"], r["engine"]), {})[r["batch"]] = r
        batches = sorted({b for found in groups.values() for b in found})
        lines += [f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}", ""]
        lines += [
            "| model | size | engine | " + " | ".join(f"{b} in a run" for b in batches) + " | pays after | played |"
        ]
        lines += ["|---|---|---|" + "--:|" * (len(batches) + 2)]
        for names, found in groups.items():
            cells = [f"{found[b]['ms_per_frame']:.2f} ms ({found[b]['ratio']:.2f}x)" for b in batches]
            pays = [r["frames_to_pay"] for r in found.values() if r["frames_to_pay"]]
            cells.append(f"{min(pays):,.0f} frames" if pays else "never")
            cells.append(f"{found[batches[0]]['played_ratio']:.2f}x")
            lines.append(f"| {' | '.join((*names, *cells))} |")
        lines.append("")
    return "\n".join(lines)


def rates_table() -> str:
    """PSNR by Adam's rate and Muon's, a table for each network."""
    lines = []
    for record in results("rates"):
        lines += [f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}", ""]
        networks: dict[str, dict[tuple[float, float], float]] = {}
        commits: dict[str, set[str]] = {}
        for r in record["rows"]:
            name = f"{r['model']}, {r['epochs']:g} epochs of {r['clip']}"
            networks.setdefault(name, {})[r["adam"], r["muon"]] = r["psnr_db"]
            commits.setdefault(name, set()).add(r.get("commit", record["commit"]))
        for name, found in networks.items():
            others = sorted(commits[name] - {record["commit"]})
            name += f" (commit {', '.join(others)})" * bool(others)
            adam, muon = (sorted({pair[i] for pair in found}) for i in (0, 1))
            lines += [f"| {name} | " + " | ".join(f"Muon {m:g}" for m in muon) + " |", "|---|" + "--:|" * len(muon)]
            for a in adam:
                cells = [f"{found[a, m]:.2f} dB" if (a, m) in found else "" for m in muon]
                lines.append(f"| Adam {a:g} | {' | '.join(cells)} |")
            lines.append("")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "batches": batches_table,
    "compression": lambda: compression_table(results("compression_curves")),
    "decode": lambda: decode_table(results("decode_speed")),
    "decode_all": lambda: decode_all_table(results("decode_speed")),
    "demo": demo_table,
    "edge": lambda: edge_table(results("edge_search")),
    "entropy": entropy_table,
    "mutations": mutations_table,
    "papers": lambda: paper_tables(results("paper_tables")),
    "profile": lambda: profile_table(results("decode_speed")),
    "rates": rates_table,
    "rounding": lambda: rounding_table(results("rounding")),
    "steps": lambda: steps_table(results("train_speed")),
    "time": lambda: time_table(results("time_to_quality")),
}


def rewrite(text: str) -> str:
    """`text` with every marked table made anew."""
    return _MARK.sub(lambda m: m[1] + TABLES[m[2]]() + "\n" + m[3], text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(rewrite(document.read_text()))
