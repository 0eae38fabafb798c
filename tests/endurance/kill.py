"""Kill a training run with SIGKILL again and again, resume it, and compare it with a run that was never killed.

    python -m tests.endurance.kill --kills 20 --seed 0
    python -m tests.endurance.kill -- --prune 0.4

What follows `--` goes to `inr-train`. Every third kill comes while the program starts, while it trains, or while it
writes its resume state. A run that ends before enough kills came is followed by another. All weights, ranges, figures
of the report and rows of the log must be those of the undisturbed run, bit for bit; only times may differ. Prints a
table and a verdict, exits 1 on any difference and then leaves its files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from inr_runtime.cli import StatusLine
from inr_train.checkpoint import Checkpoint
from inr_train.clip import EXCERPT

SMALL = ["--preset", "nerv-xxs", "--size", "96x54", "--frames", "4", "--epochs", "100"]
REPEATABLE = ["--threads", "1", "--amp", "off", "--save-every", "0", "--log", "log.jsonl"]
MOMENTS = ("saving", "training", "starting")
TIMES = {"seconds", "train_seconds", "evaluation_seconds"} | {
    f"ms_per_{what}" for what in ("step", "quantized_step", "evaluation", "rounding", "ranging")
}


@dataclass(frozen=True)
class Kill:
    """When a process was killed (one of `MOMENTS`), and whether a resume state and an unfinished file were there."""

    moment: str
    state: bool
    unfinished: bool


@dataclass
class Result:
    """What came out: all kills, runs that were killed and resumed to their end, and everything that went wrong."""

    kills: list[Kill] = field(default_factory=list)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Training:
    """One `inr-train` command in a folder of its own, started as often as it takes."""

    folder: Path
    video: Path
    options: Sequence[str]

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.folder / "m.pt"

    @property
    def state(self) -> Path:
        """The resume state."""
        return self.folder / "m.last.pt"

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or resume where there is a state; the words go to `words.txt`."""
        script = Path(sysconfig.get_path("scripts")) / "inr-train"
        resume = ["--resume"] if self.state.exists() else []
        command = [script, self.video, "-o", self.model.name, *self.options, *resume]
        with open(self.folder / "words.txt", "wb") as words:
            return subprocess.Popen(command, cwd=self.folder, stdout=words, stderr=words)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its end; raises `SystemExit` with its words where it failed."""
        if process.wait():
            raise SystemExit(f"{self.folder}: {(self.folder / 'words.txt').read_text().strip()}")

    def stamp(self) -> int:
        """Changes when the resume state does; 0 where there is none."""
        try:
            return self.state.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def unfinished(self) -> bool:
        """Whether a temporary file is there."""
        return any(".part" in path.name for path in self.folder.iterdir())


def endure(video: Path, folder: Path, kills: int, seed: int, options: Sequence[str], quiet: bool = True) -> Result:
    """Train undisturbed, then with `kills` kills at moments drawn from `seed`; all files stay in `folder`."""
    result, draw, moments = Result(), random.Random(seed), _moments()
    moment = next(moments)
    with StatusLine("kill", quiet) as status:
        whole = _training(folder / "whole", video, options)
        starting, training = _undisturbed(whole)
        expected = _facts(whole)
        while len(result.kills) < kills and not result.faults:
            again = _training(folder / f"run{result.runs}", video, options)
            while len(result.kills) < kills and not again.model.exists():
                kill = _kill(again, moment, draw.random(), starting, training / 3)
                if kill is None:  # the machine is faster now than in the undisturbed run: sooner, in another run
                    starting, training = starting / 2, training / 2
                    break
                result.kills.append(kill)
                status.update(len(result.kills), kills, "kill", run=str(result.runs + 1), moment=moment)
                moment = next(moments)
            result.faults += _ended(again) or _differences(expected, _facts(again))
            result.runs += 1
    return result


def _moments() -> Iterator[str]:
    while True:
        yield from MOMENTS


def _training(folder: Path, video: Path, options: Sequence[str]) -> Training:
    folder.mkdir(parents=True)
    return Training(folder, video.resolve(), [*SMALL, *options, *REPEATABLE])


def _undisturbed(training: Training) -> tuple[float, float]:
    """Run to the end; seconds before the first resume state and after it."""
    begin = time.monotonic()
    process = training.start()
    while process.poll() is None and not training.stamp():
        time.sleep(0.005)
    started = time.monotonic()
    training.finish(process)
    return started - begin, time.monotonic() - started


def _kill(training: Training, moment: str, share: float, starting: float, longest: float) -> Kill | None:
    """Start, and kill in a share of the time that the moment may take; None where the process ended before."""
    before = training.stamp()
    process = training.start()
    if moment == "starting":
        due = time.monotonic() + share * starting
    else:
        while training.stamp() == before and process.poll() is None:
            time.sleep(0.001)
        due = time.monotonic() + share * longest
    while process.poll() is None and time.monotonic() < due:
        time.sleep(0.001)
    while moment == "saving" and process.poll() is None and not _stopped(process, training.unfinished):
        pass
    if process.poll() is not None:
        training.finish(process)
        return None
    process.kill()
    process.wait()
    return Kill(moment, training.state.exists(), training.unfinished())


def _stopped(process: subprocess.Popen[bytes], at: Callable[[], bool]) -> bool:
    """Stop the process if `at()` holds, and say whether it still holds then; it goes on where not."""
    if not at():
        return False
    process.send_signal(signal.SIGSTOP)
    if process.returncode is not None:
        return False
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if not (still := at()):
        process.send_signal(signal.SIGCONT)
    return still


def _ended(training: Training) -> list[str]:
    """Let the run come to its end; what it left that it should not have."""
    if not training.model.exists():
        training.finish(training.start())
    left = {path.name for path in training.folder.iterdir()} - {"m.pt", "log.jsonl", "words.txt"}
    # A kill between storing the model and tidying up may leave what the next run removes.
    left -= {"m.last.pt", ".m.pt.lock"}
    return [f"{training.folder.name}: left {', '.join(sorted(left))}"] if left else []


def _facts(training: Training) -> dict[str, object]:
    """Everything of the model and the log but times, by name."""
    checkpoint = Checkpoint.load(training.model)
    facts = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    rows = [json.loads(line) for line in (training.folder / "log.jsonl").read_text().splitlines()]
    return dict(_leaves({**facts, "log": rows}, ""))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in TIMES:
                yield from _leaves(part, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _leaves(part, f"{name}[{i}]")
    elif isinstance(value, torch.Tensor):
        yield name, (str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes())
    else:
        yield name, repr(value)


def _differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    names = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    return [f"{name.lstrip('.')} differs" for name in names]


def show(result: Result, seconds: float) -> None:
    """The table and the verdict."""
    table = Table("killed while", "kills", "state to resume from", "unfinished file left", box=None)
    for moment in MOMENTS:
        kills = [kill for kill in result.kills if kill.moment == moment]
        count = Counter(state=sum(k.state for k in kills), unfinished=sum(k.unfinished for k in kills))
        table.add_row(moment, str(len(kills)), str(count["state"]), str(count["unfinished"]))
    Console(width=100).print(table)
    for fault in result.faults:
        print(fault)
    verdict = "the same to the bit as a run that was never killed" if not result.faults else "NOT the same"
    print(f"{len(result.kills)} kills in {result.runs} runs, {seconds:.0f} s: {verdict}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill training at random, resume, compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--video", type=Path, default=EXCERPT)
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="more options of inr-train")
    given = parser.parse_args()
    begin, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="inr-kill-"))
    result = endure(given.video, folder, given.kills, given.seed, given.options, quiet=False)
    show(result, time.monotonic() - begin)
    if result.faults:
        print(f"the files are in {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
