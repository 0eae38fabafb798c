"""`python -m tests.fuzz`: mutants of every kind, judged; exit code 1 where one breaks the rule."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from tests.fuzz.run import PROTOCOL, keep_failures, row_of, table_of, total_of, with_progress


@click.command()
@click.option("--count", type=click.IntRange(1), default=20_000, show_default=True, help="Mutants, all kinds together.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed gives other mutants.")
@click.option(
    "--jobs", type=click.IntRange(1), default=min(os.cpu_count() or 1, 8), show_default=True, help="Processes."
)
@click.option(
    "--seconds", type=float, default=20.0, show_default=True, help="For one file, before it counts as a hang."
)
@click.option("--memory", type=click.IntRange(64), default=1024, show_default=True, help="MiB for one file.")
@click.option("--failures", type=Path, default=Path("build/mutants"), show_default=True, help="Folder for what fails.")
@click.option("--record", is_flag=True, help="Write the results where the documentation takes its figures.")
def main(count: int, seed: int, jobs: int, seconds: float, memory: int, failures: Path, record: bool) -> None:
    """Mutate .nvb files and judge what a reader makes of them."""
    start = time.monotonic()
    guard = {"seed": seed, "workers": jobs, "seconds": seconds, "memory_bytes": memory << 20}
    tallies = with_progress(count, guard, Console(stderr=True))
    rows = [row_of(kind, tally) for kind, tally in tallies.items() if tally.files]
    console = Console(width=120)
    console.print(table_of([*rows, total_of(rows)]))
    console.print(f"{count:,} mutants in {time.monotonic() - start:.0f} s")
    failed = keep_failures(tallies, seed, failures)
    if record:
        from tests.bench.record import write_results

        protocol = PROTOCOL.format(count=count, seed=seed, memory_mib=memory, seconds=seconds)
        console.print(f"recorded in {write_results('mutations', protocol, rows)}")
    if failed:
        console.print(f"{failed} files broke the rule; they are in {failures}")
        sys.exit(1)


if __name__ == "__main__":
    main()
