"""Documentation tables: the papers' numbers beside ours. An empty cell was not measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.paper_tables.row import SPEEDS, Row
from tests.bench.paper_tables.rows import ROWS, TABLES

Result = Mapping[str, Any]
TITLES = {
    "bunny": "Big Buck Bunny",
    "pixelwise": "Pixel-wise networks against NeRV",
    "nerv_ablations": "NeRV's ablations",
    "upscaling_speed": "NeRV's upscaling: compute low and shuffle late, or upsample first",
    "hinerv_ablations": "HiNeRV's ablations",
    "hinerv_patches": "HiNeRV on frames and on patches",
    "quant_noise": "Quant-Noise",
    "uvg": "HiNeRV on UVG",
    "mcl": "HiNeRV on MCL-JCV",
}
FIRST = ("nerv_ablations", "hinerv_ablations", "hinerv_patches")
"""Tables whose rows are compared with their first one."""
_HEAD = (
    "| row | paper | tolerance | ours, full | ours, reduced | {} | parameters | GMAC |\n"
    "|---|--:|--:|--:|--:|---|--:|--:|"
)


def paper_tables(records: Iterable[Mapping[str, Any]]) -> str:
    """One table for each of the papers' tables; ours from all recorded runs, on whatever hardware."""
    records = list(records)
    results = [r for record in records for r in record["rows"]]
    lines = [
        f"{record['hardware']}, commit {record['commit']}, {record['date']}: {record['protocol']}" for record in records
    ]
    for table, title in TITLES.items():
        found = [r for r in results if r["table"] == table]
        lines += ["", f"### {title}", ""]
        if table in TABLES:
            rows = [r for r in ROWS if r.table == table]
            lines += [*_table(rows, found), *(_speeds(rows, found) if table == "pixelwise" else [])]
        else:
            lines += _upscaling(found)
    return "\n".join(lines)


def _table(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    lines = [_HEAD.format("against quantization-aware" if rows[0].table == "quant_noise" else "against the first")]
    for row in rows:
        reduced, full = (_runs(results, row, kind) for kind in ("reduced", "full"))
        facts = next(iter((*full, *reduced)), None)
        sizes = "| | |" if facts is None else f"| {facts['parameters']:,} | {facts['gmac_per_frame']:.3f} |"
        published = "" if row.published is None else f"{row.published:.2f} dB"
        if "bits_per_pixel" in row.facts:
            published += f" at {row.facts['bits_per_pixel']:.4f} bpp"
        base = _base(row, rows)
        verdict = _verdict(row, base, reduced, _runs(results, base, "reduced")) if base else ""
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append(
            f"| {name} | {published} | {row.tolerance:g} dB | {_mean(full)} | {_mean(reduced)} | {verdict} {sizes}"
        )
    return lines


def _base(row: Row, rows: Sequence[Row]) -> Row | None:
    """What a row is compared with."""
    if row.tuning is not None:
        ordinary = [r for r in rows if r.tuning and r.tuning.bits == row.tuning.bits and r.tuning.noise == 1]
        return ordinary[0] if ordinary[0] is not row else None
    return rows[0] if row.table in FIRST and row is not rows[0] else None


def _runs(results: Sequence[Result], row: Row, kind: str) -> list[Result]:
    """Those of the row as it is now: one whose network was chosen otherwise is another."""
    return [r for r in results if (r["row"], r["protocol"], r.get("note", "")) == (row.name, kind, row.note)]


def _mean(runs: Sequence[Result]) -> str:
    if not runs:
        return ""
    sequences = _by_sequence(runs)
    if "" not in sequences:
        values = [statistics.mean(r["psnr_db"] for r in group) for group in sequences.values()]
        rates = [statistics.mean(r["bits_per_pixel"] for r in group) for group in sequences.values() if _rated(group)]
        rate = f" at {statistics.mean(rates):.4f} bpp" if len(rates) == len(values) else ""
        return f"{statistics.mean(values):.2f} dB{rate} (mean of {len(values)} sequences)"
    values = [r["psnr_db"] for r in runs]
    spread = f" ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)" if len(values) > 1 else " (1 seed)"
    return f"{statistics.mean(values):.2f} dB{spread}"


def _by_sequence(runs: Sequence[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for run in runs:
        groups[run.get("sequence", "")].append(run)
    return groups


def _rated(runs: Sequence[Result]) -> bool:
    return all("bits_per_pixel" in r for r in runs)


def _verdict(row: Row, first: Row, runs: Sequence[Result], base: Sequence[Result]) -> str:
    """Does the sign of the difference agree with the paper's? Within the seeds' spread it is undecided."""
    if not runs or not base:
        return ""
    ours, theirs = [r["psnr_db"] for r in runs], [r["psnr_db"] for r in base]
    difference = statistics.mean(ours) - statistics.mean(theirs)
    undecided = min(ours) <= max(theirs) and min(theirs) <= max(ours)
    few = min(len(ours), len(theirs)) == 1
    if row.published is None or first.published is None:
        return f"{difference:+.2f} dB: {'one seed' if few else 'undecided' if undecided else 'beyond the seeds'}"
    published = row.published - first.published
    word = "undecided" if undecided else "agrees" if (difference > 0) == (published > 0) else "differs"
    return f"{difference:+.2f} dB (paper {published:+.2f}): {word}{', one seed' if few else ''}"


def _speeds(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
    """Speeds of the pixel-wise comparison; the median over seeds, of each protocol against its own rows."""
    head = " | ".join(f"{name}, {who}" for name in SPEEDS.values() for who in ("paper", "full", "reduced"))
    lines = ["", f"| row | {head} |", "|---|" + "--:|" * 9]
    for number, row in enumerate(rows):
        three = rows[number // 3 * 3 : number // 3 * 3 + 3]
        ours = {kind: _speeds_of(row, three, results, kind) for kind in ("full", "reduced")}
        cells = []
        for key in SPEEDS:
            mark = " fps" if key == "decode_fps" else "x"
            values = [row.facts[key], ours["full"].get(key), ours["reduced"].get(key)]
            cells += ["" if v is None else f"{v:.3g}{mark}" for v in values]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def _speeds_of(row: Row, three: Sequence[Row], results: Sequence[Result], kind: str) -> dict[str, float]:
    """Against the SIREN and the NeRV of the same size; what they lack is left out."""
    runs, siren, nerv = (_runs(results, r, kind) for r in (row, three[0], three[2]))
    speeds = {"decode_fps": statistics.median(r["decode_fps"] for r in runs)} if runs else {}
    if runs and siren:
        speeds["train_speed"] = _epoch_ms(siren) / _epoch_ms(runs)
    if runs and nerv:
        speeds["encode_time"] = _epoch_ms(runs) * runs[0]["epochs"] / (_epoch_ms(nerv) * nerv[0]["epochs"])
    return speeds


def _epoch_ms(runs: Sequence[Result]) -> float:
    return statistics.median(r.get("step_cpu_ms", r["ms_per_step"]) * r["steps_per_epoch"] for r in runs)


def _upscaling(results: Sequence[Result]) -> list[str]:
    lines = [
        "| upscaling | frame | parameters | GMAC | of them, against pixel shuffle | ms | against pixel shuffle |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for r in results:
        size = (r["width"], r["height"])
        (first,) = (o for o in results if (o["width"], o["height"]) == size and o["ms_ratio"] == 1)
        macs = f"{r['gmac_per_frame']:.3f} | {r['gmac_per_frame'] / first['gmac_per_frame']:.2f}x"
        name = r["row"].replace("_", " ")
        lines.append(
            f"| {name} | {size[0]}x{size[1]} | {r['parameters']:,} | {macs} | {r['ms']:.2f} | {r['ms_ratio']:.2f}x |"
        )
    return lines
