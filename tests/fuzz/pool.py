"""Workers that may die: each judges one mutant at a time, watched from outside, under a limit of memory."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

CRASH, HANG, MEMORY = "crash", "hang", "memory limit"
_CONTEXT = multiprocessing.get_context("spawn")
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Job:
    """One mutant to judge: its kind and number."""

    kind: str
    number: int


@dataclass(frozen=True)
class Result:
    """What came of one mutant. allowed: by the rule. memory_bytes: what judging it took beyond an idle worker."""

    job: Job
    outcome: str
    detail: str = ""
    allowed: bool = False
    seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Guard:
    """Limits of one run. folder: for the workers' files; seconds: for one file; memory_bytes: beyond an idle worker.

    judge: `module:function` of (job, seed, path) -> (outcome, detail, allowed), named so that workers can import it.
    """

    folder: Path
    seed: int = 0
    workers: int = 1
    seconds: float = 20.0
    memory_bytes: int = 1 << 30
    judge: str = "tests.fuzz.pool:judge_mutant"


def judge_mutant(job: Job, seed: int, path: Path) -> tuple[float, str, str, bool]:
    """Make the mutant, write it to `path`, judge it: seconds, outcome, detail, allowed."""
    from tests.fuzz.judge import ALLOWED, judge
    from tests.fuzz.mutate import mutant

    made = mutant(job.kind, seed, job.number)
    path.write_bytes(made.data)
    reset_peak()
    start = time.perf_counter()
    verdict = judge(path, made.seed.playback)
    seconds = time.perf_counter() - start
    return seconds, verdict.outcome, verdict.detail, verdict.outcome in ALLOWED[made.remade]


def run_jobs(jobs: Iterable[Job], guard: Guard, report: Callable[[Result], None]) -> None:
    """Judge every job; `report` gets each result in this process, in no particular order."""
    waiting = iter(jobs)
    workers = [_Worker(guard, number) for number in range(guard.workers)]
    try:
        while True:
            for worker in workers:
                if not worker.busy:
                    worker.take(waiting)
            if not any(worker.busy for worker in workers):
                return
            ends: list[Any] = [end for w in workers if w.busy for end in (w.connection, w.process.sentinel)]
            wait(ends, timeout=0.1)
            for worker in workers:
                result = worker.poll() if worker.busy else None
                if result is not None:
                    report(result)
    finally:
        for worker in workers:
            worker.stop()


@dataclass
class _Worker:
    """A process, what it is busy with, and since when; it is started anew whenever it died."""

    guard: Guard
    number: int
    job: Job | None = None
    since: float = 0.0
    ready: bool = False
    process: Any = field(init=False)
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self._start()

    @property
    def busy(self) -> bool:
        return self.job is not None

    def take(self, waiting: Iterator[Job]) -> None:
        """Begin the next job, if one is left."""
        self.job = next(waiting, None)
        if self.job is not None:
            self.since = time.monotonic()
            self.connection.send(self.job)

    def poll(self) -> Result | None:
        """The result of the job, if there is one by now: an answer, a death, or patience lost."""
        job = self.job
        assert job is not None
        try:
            while self.connection.poll():
                answer = self.connection.recv()
                if answer == "ready":
                    self.ready, self.since = True, time.monotonic()
                    continue
                self.job = None
                return Result(job, *answer)
        except (EOFError, ConnectionError):
            self.process.join()
        if not self.process.is_alive():
            return self._lost(CRASH, _name_of_end(self.process.exitcode))
        seconds = time.monotonic() - self.since
        if seconds > (self.guard.seconds if self.ready else _START_SECONDS):
            return self._lost(HANG, f"not done after {seconds:.0f} s")
        return None

    def stop(self) -> None:
        """End the process; it holds nothing that needs care."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _lost(self, outcome: str, detail: str) -> Result:
        job, ready = self.job, self.ready
        assert job is not None
        self.stop()
        if not ready:
            raise RuntimeError(f"a worker did not even start: {detail}")
        self.job = None
        self._start()
        return Result(job, outcome, detail, seconds=time.monotonic() - self.since)

    def _start(self) -> None:
        self.connection, other = _CONTEXT.Pipe()
        self.ready = False
        self.process = _CONTEXT.Process(target=_serve, args=(other, self.guard, self.number), daemon=True)
        self.process.start()
        other.close()


def _name_of_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _serve(connection: Connection, guard: Guard, number: int) -> None:
    """A worker's life."""
    import importlib

    from tests.fuzz.seeds import seeds

    module, name = guard.judge.split(":")
    judge = getattr(importlib.import_module(module), name)
    seeds()  # everything that is imported, cached and warmed up comes before the limit of memory
    limit_memory(guard.memory_bytes)
    path = guard.folder / f"worker-{number}.nvb"
    connection.send("ready")
    while True:
        job = connection.recv()
        before = reset_peak()
        try:
            seconds, outcome, detail, allowed = judge(job, guard.seed, path)
        except MemoryError as error:
            seconds, outcome, detail, allowed = 0.0, MEMORY, str(error), False
        memory = max(0, peak_bytes() - before)
        if "MemoryError" in detail:
            outcome, allowed = MEMORY, False
        connection.send((outcome, detail, allowed, seconds, memory))


def limit_memory(more_bytes: int) -> None:
    """Let this process take at most so much address space more than it has, where the system can do that."""
    if sys.platform == "win32":
        return
    import resource

    pages = Path("/proc/self/statm")
    if pages.exists():
        now = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, now + more_bytes))


def reset_peak() -> int:
    """Forget the highest use of memory, where the system can do that, and return the present one in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_bytes()
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Highest use of memory since `reset_peak`, in bytes; 0 where it cannot be known."""
    try:
        return _status_bytes("VmHWM")
    except OSError:
        return 0


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0
