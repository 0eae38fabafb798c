"""A run that goes bad, by NaN or for want of memory, says so in one line and keeps what it has reached."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import SMALL, Call
from runs import Step, assert_half_the_rate_in_another_order, assert_same, watched_steps

from inr_runtime.errors import InrError, UsageError
from inr_train import Checkpoint, Clip, fit
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel
from inr_train.run import Run
from inr_train.start import best_path, last_path
from inr_train.step import Learner

FAST = dataclasses.replace(PRESETS["nerv-xxs"].recipe, epochs=12, dtype="fp32", threads=1)
CPU = torch.device("cpu")
ALLOCATOR = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 12 bytes."
WANT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(ALLOCATOR),
    MemoryError(),
]
Steps = Callable[[Exception | None, Callable[[Learner], bool]], None]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps that did not fail."""
    return watched_steps(monkeypatch)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, taken: list[Step]) -> Steps:
    """Let steps that a condition chooses fail: with an error, or with NaN where that is None."""
    module = sys.modules["inr_train.step"]
    real = module.train_step

    def install(error: Exception | None, chosen: Callable[[Learner], bool]) -> None:
        def step(learner: Learner, *batch: torch.Tensor) -> torch.Tensor:
            if not chosen(learner):
                return real(learner, *batch)
            if error is not None:
                raise error
            return torch.tensor(float("nan"))

        monkeypatch.setattr(module, "train_step", step)

    return install


def after(step: int) -> Callable[[Learner], bool]:
    """Steps of a run from this one on, not of the measurement before it."""
    return lambda learner: isinstance(learner, Run) and learner.step >= step


def quantized(learner: Learner) -> bool:
    return isinstance(learner, Run) and isinstance(learner.network, QuantizedModel)


@pytest.mark.parametrize("error", [None, *WANT_OF_MEMORY], ids=["nan", "device", "cpu", "python"])
@pytest.mark.filterwarnings("ignore:training became NaN")
def test_one_line_says_what_happened_and_what_is_kept_is_good(
    video: Path, tmp_path: Path, call: Call, fail: Steps, error: Exception | None
) -> None:
    command = ("inr-train", video, "-o", "m.pt", *SMALL, "--epochs", 12)
    fail(error, after(40))
    code, _, words = call(*command)
    line = words.splitlines()[-1]
    assert (code, "Traceback" in words) == (1, False), words
    assert ("became NaN at step 40" if error is None else "too little memory") in line
    assert ("lower --lr or another --seed" if error is None else "smaller --preset or --size") in line
    assert "m.best.pt" in line
    assert "inr-train --resume" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.best.pt", "m.last.pt"]
    best = Checkpoint.load(tmp_path / "m.best.pt")
    assert f"{best.report['psnr_db']:.2f} dB" in line
    assert best.report["failure"] in line
    code, _, words = call("inr-export", "m.best.pt", "--max-loss-db", 50)
    assert code == 0, words
    assert call(*command)[0] == 2
    fail(None, lambda _: False)
    code, _, words = call(*command, "--resume")
    assert code == 0, words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.best.nvb", "m.pt"]
    assert Checkpoint.load(tmp_path / "m.pt").report["psnr_db"] > best.report["psnr_db"]


@pytest.mark.filterwarnings("ignore:training became NaN")
def test_every_resuming_of_a_diverged_run_tries_half_the_rate_from_where_it_was_good(
    tiny_clip: Clip, tmp_path: Path, fail: Steps, taken: list[Step]
) -> None:
    """It was left without a state, or with one that led to the same NaN again."""
    output = tmp_path / "m.pt"
    fail(None, after(40))
    with pytest.raises(InrError, match="half the learning rate"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=output, save_every=0.0)
    for restarts in (5, 6):
        run = Run.load(last_path(output), CPU)
        assert (run.restarts, run.step, len(run.rows)) == (restarts, 30, 1)
        with pytest.raises(InrError, match="went back"):
            fit(tiny_clip, output=output, resume=True)
    attempts = [taken[begin : begin + 10] for begin in range(30, len(taken), 10)]
    assert len(attempts) == 1 + 4 + 2
    for before, then in itertools.pairwise(attempts):
        assert_half_the_rate_in_another_order(before, then)
    fail(None, lambda _: False)
    assert fit(tiny_clip, output=output, resume=True).report["psnr_db"] > 15


@pytest.mark.filterwarnings("ignore:training became NaN")
@pytest.mark.parametrize(("dtype", "hint"), [("fp16", "lower --lr, --amp off or"), ("fp32", "lower --lr or")])
def test_where_half_precision_may_be_the_cause_the_way_out_of_it_is_named(
    tiny_clip: Clip, fail: Steps, dtype: str, hint: str
) -> None:
    fail(None, after(3))
    with pytest.raises(InrError, match=hint):
        fit(tiny_clip, "nerv-xxs", recipe=dataclasses.replace(FAST, dtype=dtype))


def test_what_imitating_integers_costs_in_memory_leaves_the_float_model(
    tiny_clip: Clip, tmp_path: Path, fail: Steps
) -> None:
    """The tail has no evaluation yet: its recipe would have told the exporter that these weights were rounded."""
    fail(MemoryError(), quantized)
    with pytest.raises(InrError, match=r"m\.best\.pt"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt")
    best = Checkpoint.load(best_path(tmp_path / "m.pt"))
    assert not best.rounded
    assert not best.ranges
    assert best.report["psnr_float_db"] == best.report["psnr_db"]


@pytest.mark.parametrize("preset", ["nerv-xxs", "hnerv-0.35m"])
def test_memory_that_was_missing_once_between_phases_changes_no_result(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    whole = fit(tiny_clip, preset, recipe=FAST)
    module = sys.modules["inr_train.run"]

    def fail(*_: object) -> None:
        raise RuntimeError(ALLOCATOR)

    with monkeypatch.context() as patch:
        patch.setattr(module, "ranges_over", fail)
        with pytest.raises(InrError, match=r"m\.last\.pt"):
            fit(tiny_clip, preset, recipe=FAST, output=tmp_path / "m.pt")
    assert not [name for name in Checkpoint.load(best_path(tmp_path / "m.pt")).weights if name.startswith("encoder.")]
    assert_same(whole, fit(tiny_clip, output=tmp_path / "m.pt", resume=True))


def test_a_newer_resume_state_stays_where_memory_runs_out(tiny_clip: Clip, tmp_path: Path, fail: Steps) -> None:
    fail(MemoryError(), after(40))
    with pytest.raises(InrError, match="too little memory"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt", save_every=0.0)
    assert Run.load(last_path(tmp_path / "m.pt"), CPU).step == 40


@pytest.mark.parametrize("error", WANT_OF_MEMORY)
@pytest.mark.parametrize("place", ["loop.torch.from_numpy", "loop.start_run", "loop.resume_run", "run.build_model"])
def test_want_of_memory_before_the_first_step_is_explained_too(
    tiny_clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Steps, place: str, error: Exception
) -> None:
    """Of a resume state that did not fit, it was said that it is not one, and to start again."""

    def missing(*_: object) -> None:
        raise error

    fail(MemoryError(), after(40))
    with pytest.raises(InrError, match="too little memory"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt")
    before = last_path(tmp_path / "m.pt").read_bytes()
    resume = place != "loop.start_run"
    monkeypatch.setattr(f"inr_train.{place}", missing)
    with pytest.raises(InrError, match="this machine has too little memory") as caught:
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt", resume=resume, overwrite=not resume)
    assert caught.value.exit_code == 1
    assert last_path(tmp_path / "m.pt").read_bytes() == before


def test_other_errors_are_not_taken_for_want_of_memory(tiny_clip: Clip, tmp_path: Path, fail: Steps) -> None:
    fail(RuntimeError("a bug"), after(40))
    with pytest.raises(RuntimeError, match="a bug"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt")
    assert not list(tmp_path.iterdir())


def test_without_an_output_only_the_cause_is_told(tiny_clip: Clip, fail: Steps) -> None:
    fail(MemoryError(), after(40))
    with pytest.raises(InrError, match=r"fewer --frames$"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST)


def test_a_best_model_is_not_overwritten_without_asking(tiny_clip: Clip, tmp_path: Path) -> None:
    mine = tmp_path / "m.best.pt"
    mine.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"m\.best\.pt"):
        fit(tiny_clip, "nerv-xxs", recipe=FAST, output=tmp_path / "m.pt")
    assert mine.read_bytes() == b"mine"
