"""Mutants by the thousand: judged in guarded processes, counted by kind and outcome, recorded."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from tests.fuzz.judge import DECODED, IDENTICAL, REFUSED, WRONG_PICTURE
from tests.fuzz.mutate import KINDS, mutant
from tests.fuzz.pool import Guard, Job, Result, run_jobs

PROTOCOL = (
    "{count} mutants, evenly of each kind, seed {seed}, of the small files in tests/fuzz/corpus and the golden files. "
    "Each is opened with limits of 100,000 stored integers, 100 MMAC and 16 MiB of activations a frame, and the first "
    "and last frame of every segment is decoded on the target that the file was made for, one thread. Workers may take "
    "{memory_mib} MiB beyond what they have when idle, and {seconds:g} s a file. Without new checksums, a file must be "
    "refused with an NvbError that names it, or play exactly like the original; with new ones it may also show other "
    "frames of the declared size or be refused for its thumbnail. Everything else is a failure. slowest_ms: opening "
    "and decoding; peak_memory_bytes: most that one file took beyond an idle worker."
)
HOW_TO = """Files that broke the rule, and why (failures.txt). To see one again, from the root of the repository:

    python -m tests.fuzz.judge {folder}/NAME.nvb

A mutant is made anew with tests.fuzz.mutate.mutant(KIND, SEED, NUMBER), all three in failures.txt.
When it is mended, add a test to tests/runtime that tells its story.
"""


@dataclass
class Tally:
    """What came of the mutants of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)
    slowest: float = 0.0
    memory_bytes: int = 0

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.allowed:
            self.outcomes[result.outcome] += 1
        else:
            self.failures.append(result)
        self.slowest = max(self.slowest, result.seconds)
        self.memory_bytes = max(self.memory_bytes, result.memory_bytes)

    @property
    def files(self) -> int:
        """How many mutants there were."""
        return sum(self.outcomes.values()) + len(self.failures)


def mutate_and_judge(
    count: int, guard_options: dict[str, Any], on_result: Callable[[Result], None] | None = None
) -> dict[str, Tally]:
    """Judge `count` mutants, as evenly of each kind as possible; a tally per kind."""
    tallies = {kind: Tally() for kind in KINDS}

    def report(result: Result) -> None:
        tallies[result.job.kind].add(result)
        if on_result is not None:
            on_result(result)

    memory = Path("/dev/shm")  # thousands of small files need no disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        run_jobs(jobs(count), Guard(Path(folder), **guard_options), report)
    return tallies


def jobs(count: int) -> Iterator[Job]:
    """Kinds in turn, each with numbers from 0."""
    kinds = list(KINDS)
    return (Job(kinds[i % len(kinds)], i // len(kinds)) for i in range(count))


def with_progress(count: int, guard_options: dict[str, Any], console: Console) -> dict[str, Tally]:
    """As `mutate_and_judge`, with a bar that says how long it will take."""
    columns = (
        TextColumn("mutants"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[bad]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=count, bad="")
        bad = 0

        def advance(result: Result) -> None:
            nonlocal bad
            bad += not result.allowed
            progress.update(task, advance=1, bad=f"{bad} failures" if bad else "")

        return mutate_and_judge(count, guard_options, advance)


def row_of(kind: str, tally: Tally) -> dict[str, Any]:
    """One row of the results, with figures and their units."""
    return {
        "mutation": kind,
        "checksums_made_anew": KINDS[kind][0],
        "files": tally.files,
        "refused": tally.outcomes[REFUSED],
        "identical": tally.outcomes[IDENTICAL],
        "wrong_picture_refused": tally.outcomes[WRONG_PICTURE],
        "decoded_resigned": tally.outcomes[DECODED],
        "failures": len(tally.failures),
        "slowest_ms": round(1000 * tally.slowest, 1),
        "peak_memory_bytes": tally.memory_bytes,
    }


def table_of(rows: list[dict[str, Any]]) -> Table:
    """The rows for people."""
    table = Table("mutation")
    for name in ("files", "refused", "identical", "thumbnail", "decodes", "FAILURES", "slowest", "memory"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = [f"{row[k]:,}" for k in COUNTS]
        table.add_row(
            row["mutation"], *figures, f"{row['slowest_ms']:.0f} ms", f"{row['peak_memory_bytes'] / 1e6:.1f} MB"
        )
    return table


COUNTS = ("files", "refused", "identical", "wrong_picture_refused", "decoded_resigned", "failures")


def total_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of sums, and of what was slowest and largest."""
    total: dict[str, Any] = {"mutation": "all", **{key: sum(row[key] for row in rows) for key in COUNTS}}
    return total | {key: max(row[key] for row in rows) for key in ("slowest_ms", "peak_memory_bytes")}


def keep_failures(tallies: dict[str, Tally], seed: int, folder: Path) -> int:
    """Write every file that broke the rule, and how to go on; returns their number."""
    failures = [result for tally in tallies.values() for result in tally.failures]
    if failures:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.txt").write_text(HOW_TO.format(folder=folder))
    lines = []
    for result in failures:
        name = f"{result.job.kind.replace(' ', '-').replace(',', '')}-{seed}-{result.job.number}.nvb"
        (folder / name).write_bytes(mutant(result.job.kind, seed, result.job.number).data)
        lines.append(f"{name}\n  mutant({result.job.kind!r}, {seed}, {result.job.number})")
        lines.append(f"  {result.outcome} {result.detail}")
    if failures:
        (folder / "failures.txt").write_text("\n".join(lines) + "\n")
    return len(failures)
