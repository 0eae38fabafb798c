"""What a training run tells: progress after every step, and a JSONL log of its evaluations."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from inr_runtime.errors import InrError
from inr_train.budget import left_ms
from inr_train.run import Run


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    done, total: steps, branches counted, those that a reached PSNR made needless not. share: of the expected time, what
    is over. psnr_db: of the last evaluation, None before it. seconds: training time so far.
    """

    done: int
    total: int
    epoch: float
    epochs: float
    phase: str
    loss: float
    psnr_db: float | None
    seconds: float
    share: float

    @property
    def steps_per_second(self) -> float:
        """Average speed since the run began."""
        return self.done / max(self.seconds, 1e-9)

    @property
    def eta_seconds(self) -> float:
        """Expected time to the end, where steps and evaluations go on as fast as so far; slow phases as measured."""
        return self.seconds * (1 - self.share) / max(self.share, 1e-9)

    @classmethod
    def of(cls, run: Run, frames: int, loss: float) -> Progress:
        """The state of `run` on a clip of `frames` frames."""
        recipe, spans = run.recipe, run.recipe.spans(frames)
        lengths = [end - begin for begin, end in spans]
        skipped = run.report.get("skipped_steps", 0)
        done, total = sum(lengths[: run.phase]) + run.step - spans[run.phase][0] - skipped, sum(lengths) - skipped
        epoch = run.step * recipe.epochs / max(1, recipe.steps(frames))
        psnr = run.rows[-1]["psnr_db"] if run.rows else None
        name, share = recipe.phases[run.phase].name, run.elapsed / max(1e-9, run.elapsed + left_ms(run, frames) / 1e3)
        return cls(done, total, epoch, recipe.epochs, name, loss, psnr, run.elapsed, share)


class RunLog:
    """Writes rows to a JSONL file, beginning with those of the run so far; does nothing without a path."""

    def __init__(self, path: Path | None, rows: Iterable[Mapping[str, Any]]) -> None:
        self._path, self._rows = path, list(rows)
        self._file: TextIO | None = None
        self._warned = False

    def __enter__(self) -> RunLog:
        if self._path is not None:
            try:
                self._file = open(self._path, "w", encoding="utf-8")
            except OSError as error:
                raise InrError(f"cannot write {self._path}: {error.strerror}") from error
        for row in self._rows:
            self.write(row)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            with suppress(OSError):
                self._file.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row and flush. A full disk costs no more than the log: it is warned of once, and tried again."""
        if not self._file:
            return
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            if not self._warned:
                warnings.warn(f"training goes on, but {self._path} cannot be written: {error.strerror}", stacklevel=2)
            self._warned = True
