"""The state of a training run, and how it survives being killed.

The state is written beside the output (`model.last.pt`) from time to time and when the run is stopped. Everything a
step depends on is in it or derived from the seed and the step number, so a run that resumes ends with the same result
as one that was never interrupted, on the same machine and thread count. Where a time budget is given, the number of
epochs follows from the clock, so no two runs are the same; but what was measured and is in the state, the epochs too,
is not measured again.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from inr_runtime.cli import TERMINATED
from inr_runtime.errors import InputError, InrError
from inr_runtime.int8plan import Range
from inr_train.checkpoint import VERSION, load_dict, save_dict
from inr_train.clip import spread
from inr_train.compiled import Decode, compiled_decode
from inr_train.memory import ran_out
from inr_train.models import VideoModel, build_model
from inr_train.optimizers import Together, make_optimizer
from inr_train.pruning import Masks
from inr_train.quantization import RANGED_FRAMES, QuantizedModel, ranges_over
from inr_train.recipe import Recipe
from inr_train.rounding import settle_bits
from inr_train.trace import Trace, trace

RUN_FORMAT = "inr-run"
_STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_CHANGING = ("phase", "step", "raced", "racing", "restarts", "elapsed", "loss", "report", "rows", "best", "trunk")


@dataclass
class Run:
    """A training run in memory.

    phase, step: what comes next. raced: steps of candidates that did not win (`race.py`). racing: what those reached
    that have run, and the snapshot of the one that goes on; candidate: the one that runs now. network: the model as the
    current phase sees it, decode: how it draws in steps where that is compiled. masks: the weights that pruning
    left. trunk: the snapshot that a branch phase goes back to. good: the snapshot that NaN goes back to. best:
    phase, quality, weights and ranges of the current phase's best evaluation; of the phase before until there is
    one. rows: the log. loss: its running mean. restarts: how often the run went back; each halves the learning rate
    and changes the order of frames.
    """

    name: str
    config: dict[str, Any]
    recipe: Recipe
    seed: int
    clip_hash: str
    device: torch.device
    model: VideoModel
    phase: int = 0
    step: int = 0
    raced: int = 0
    racing: dict[str, Any] = field(default_factory=dict)
    candidate: Run | None = None
    restarts: int = 0
    elapsed: float = 0.0
    loss: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    trunk: dict[str, Any] | None = None
    good: dict[str, Any] | None = None
    traced: Trace | None = None
    network: VideoModel | QuantizedModel = field(init=False)
    optimizer: Together = field(init=False)
    decode: Decode | None = field(init=False)

    @classmethod
    def new(
        cls,
        name: str,
        config: dict[str, Any],
        recipe: Recipe,
        seed: int,
        clip_hash: str,
        device: torch.device,
        weights: Mapping[str, torch.Tensor] | None = None,
    ) -> Run:
        """A run at step 0 with the given weights, or weights from the seed."""
        torch.manual_seed(seed)
        model = build_model(name, config)
        if weights is None:
            model.prepare()
        else:
            model.load_state_dict(dict(weights))
        model = _placed(model, device)
        run = cls(name, config, recipe, seed, clip_hash, device, model)
        run.enter_phase()
        return run

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Run:
        """The run that `save` wrote. Raises `InputError`."""
        try:
            data = load_dict(path, RUN_FORMAT)
            recipe = Recipe.from_dict(data["recipe"])
            model = _placed(build_model(data["name"], data["config"]), device)
            run = cls(data["name"], data["config"], recipe, data["seed"], data["clip_hash"], device, model)
            run.restore(data["snapshot"])
            run.good = data["good"]
        except InputError as error:
            raise InputError(f"{error}; start again with -y") from error
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            if ran_out(error):
                raise
            raise InputError(f"{path}: not a resume state of this version; start again with -y") from error
        return run

    def save(self, path: Path, good: bool = False) -> None:
        """Write the present state atomically, or the last good one, to go on from there with the present restart."""
        since = {"restarts": self.restarts, "elapsed": self.elapsed}
        snapshot = {**self.good, **since} if good and self.good else self.snapshot()
        fixed = {k: getattr(self, k) for k in ("name", "config", "seed", "clip_hash")}
        data = {**fixed, "recipe": self.recipe.to_dict(), "snapshot": snapshot, "good": self.good}
        save_dict(path, {"format": RUN_FORMAT, "version": VERSION, **data})

    def snapshot(self) -> dict[str, Any]:
        """All that changes, copied."""
        state = {name: copy.deepcopy(getattr(self, name)) for name in _CHANGING}
        if self.candidate:
            state["racing"]["candidate"] = self.candidate.snapshot()
        ranges = {k: list(v) for k, v in self.ranges.items()}
        weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        masks = {k: v.cpu().clone() for k, v in self.masks.items()}
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return {**state, "ranges": ranges, "weights": weights, "masks": masks, "optimizer": optimizer}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a snapshot."""
        for name in _CHANGING:
            setattr(self, name, copy.deepcopy(snapshot[name] if name != "racing" else snapshot.get(name, {})))
        if self.best:
            self.best.setdefault("phase", self.phase)  # states of before had the present phase's best only
        self.model.load_state_dict(snapshot["weights"])
        self.masks = {k: v.to(self.device) for k, v in snapshot["masks"].items()}
        ranges = {k: (float(v[0]), float(v[1])) for k, v in snapshot["ranges"].items()}
        self.enter_phase(0, ranges)
        self.optimizer.load_state_dict(copy.deepcopy(snapshot["optimizer"]))

    @property
    def lr_factor(self) -> float:
        """What restarts left of the learning rate."""
        return 0.5**self.restarts

    @property
    def order(self) -> int:
        """Seed of the order of frames."""
        return self.seed + 7919 * self.restarts

    @property
    def ranges(self) -> dict[str, Range]:
        """Activation ranges of the current phase, empty without int8."""
        return self.network.ranges if isinstance(self.network, QuantizedModel) else {}

    @property
    def phase_best(self) -> dict[str, Any]:
        """`best` where it is the current phase's, else empty."""
        return self.best if self.best.get("phase") == self.phase else {}

    @property
    def rounded(self) -> bool:
        """Whether the last evaluation was that of the weights as they are stored."""
        return bool(self.rows) and "rounded" in self.rows[-1]

    def trace(self) -> Trace:
        """The model's canonical graph, traced once."""
        if self.traced is None:
            self.traced = trace(self.model)
        return self.traced

    def enter_phase(self, frame_count: int = 0, ranges: dict[str, Range] | None = None) -> None:
        """Make the network and the optimizer that the current phase needs.

        frame_count: frames to measure ranges with where an int8 phase begins; 0 when ranges are given or not needed.
        The optimizer's moments of the weights carry over from the phase before.
        """
        phase = self.recipe.phases[min(self.phase, len(self.recipe.phases) - 1)]
        kind = phase.quantize
        before = getattr(self, "optimizer", None)
        if kind == "none":
            self.network = self.model
        else:
            if frame_count and not self.recipe.float_bits:
                self._settle_bits(frame_count)
            if kind == "int8" and not ranges and frame_count:
                times = spread(frame_count, max(1, RANGED_FRAMES // self.recipe.every))
                ranges = ranges_over(self.model, self.trace(), self.recipe.bits, times)
            wanted = ranges if kind == "int8" else None
            self.network = QuantizedModel(self.model, self.trace(), self.recipe.bits, wanted, phase.noise).to(
                self.device
            )
        wanted_compiled = self.recipe.compiled and kind == "none"
        self.decode = compiled_decode(self.model, self.device) if wanted_compiled else None
        self.optimizer = make_optimizer(self.model, self.network, self.recipe, before)

    def _settle_bits(self, frame_count: int) -> None:
        """Measure how many bits the weights of float layers and the grids need, once in a run."""
        quality = (self.report.get("float") or {}).get("psnr_db")
        if quality is None and self.rows:
            quality = self.rows[-1]["psnr_db"]
        bits, trade = settle_bits(self.model, self.trace(), self.recipe.bits, frame_count, quality)
        self.recipe = replace(self.recipe, float_bits=bits.floats, grid_bits=self.recipe.grid_bits or bits.grids)
        self.report["float_bits_trade"] = trade


class Saver:
    """Writes the run's state to `path`, not more often than every `seconds`; does nothing without a path.

    A disk that is full for a while costs resume states, not the run: it is warned of once.
    """

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path, self._seconds, self._saved = path, seconds, time.monotonic()
        self._warned = False

    def save(self, run: Run, due: bool = False) -> None:
        """Write the state of `run` if it is time, or due."""
        if not due and time.monotonic() - self._saved < self._seconds:
            return
        try:
            self.write(run)
        except InrError as error:
            if not self._warned:
                warnings.warn(f"training goes on, but cannot be resumed for now: {error}", stacklevel=2)
            self._warned = True
        self._saved = time.monotonic()

    def write(self, run: Run) -> None:
        """Write the state of `run` now; raises `InrError`."""
        if self.path:
            run.save(self.path)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], None]]:
    """Give a function that stops if Ctrl-C, SIGTERM or SIGHUP came since: called between steps.

    It raises `KeyboardInterrupt`, after SIGTERM `SystemExit`. So a run is never stopped inside a step. A second Ctrl-C
    stops at once; a terminal that closes may send SIGHUP twice. What is ignored (nohup) stays ignored. Does nothing
    outside the main thread.
    """
    came: list[int] = []

    def remember(number: int, frame: object) -> None:
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not came and number == signal.SIGINT:
            # By hand: a handler runs in the middle of anything, of what prints as well.
            os.write(2, b"\nstopping after what is being computed; again to stop at once\n")
        came.append(number)

    def check() -> None:
        if came and came[0] == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        if came:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    heard = [number for number in _STOPS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, remember) for number in heard}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _placed(model: VideoModel, device: torch.device) -> VideoModel:
    # With bf16 convolutions in NCHW most of the speed is lost; both or none.
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
