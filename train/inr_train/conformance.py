"""Does a representation keep its contract, all the way from sampling to a file that plays?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_runtime import open_video
from inr_runtime.chunks import Header
from inr_runtime.errors import InrError
from inr_runtime.format import write_nvb
from inr_runtime.info import VideoInfo
from inr_runtime.segment import Segment, make_thumbnail
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip
from inr_train.graph_runner import run_graph
from inr_train.loop import fit
from inr_train.losses import least_side
from inr_train.models import VideoModel, build_model, count_parameters
from inr_train.presets import Preset
from inr_train.quantization import quantize_grids, quantize_weights
from inr_train.ranges import measure_ranges
from inr_train.recipe import Recipe
from inr_train.trace import Trace, trace

MEAN_ERROR = {"cpu-fp32": 0.5, "cpu-int8": 4.0}
"""Code values that an engine may be off on average: rounding, and what untrained ranges cost."""


@dataclass(frozen=True)
class Check:
    """One point of the contract. problem: "" where it holds."""

    name: str
    problem: str = ""


@dataclass
class _Report:
    checks: list[Check] = field(default_factory=list)

    @contextmanager
    def point(self, name: str) -> Iterator[None]:
        """Note whether the body ran; what it raises is the problem, and ends the checks."""
        try:
            yield
        except Exception as error:
            self.checks.append(Check(name, f"{type(error).__name__}: {error}".splitlines()[0]))
            raise _Stop from error
        self.checks.append(Check(name))


class _Stop(Exception):
    """A check failed; those after it need what it checks."""


def check_model(preset: Preset, height: int = 36, width: int = 64, frames: int = 5) -> list[Check]:
    """Run a model through the whole chain on a synthetic clip; the list ends with the first check that fails.

    The model is trained for two epochs with quantization imitated, so operators without gradients are found too.
    """
    report = _Report()
    clip = _clip(height, width, frames)
    try:
        with report.point("the config builds a model, and plain types build the same one"):
            checkpoint_config = _plain_config(preset, clip)
            model = build_model(preset.family, checkpoint_config).eval()
        with report.point("decode(*sample(t)) is a batch of RGB frames of the clip's size"):
            _check_shapes(model, clip)
        with report.point("the graph is made of the dialect's operators and computes the same"):
            traced = trace(model)
            _check_graph(model, traced, frames)
        with report.point("it trains, with weights and activations imitated as integers"):
            trained = fit(clip, preset.name, epochs=2, recipe=_recipe(preset, clip), quantize="int8", threads=1)
            _check_report(trained)
        with tempfile.TemporaryDirectory() as folder, report.point("its file plays without PyTorch"):
            _check_file(trained, Path(folder) / "check.nvb")
    except _Stop:
        pass
    return report.checks


def _clip(height: int, width: int, frames: int) -> Clip:
    y, x = np.mgrid[0:height, 0:width]
    stack = np.stack([np.stack([x * 3 + 9 * t, y * 5, 0 * x + 20 * t], axis=-1) % 256 for t in range(frames)])
    return Clip(np.ascontiguousarray(stack, np.uint8), VideoInfo(width, height, frames), "a synthetic clip")


def _recipe(preset: Preset, clip: Clip) -> Recipe:
    """The preset's, with another loss where its own needs larger frames."""
    small = min(clip.info.height, clip.info.width) < least_side(preset.recipe.loss)
    return replace(preset.recipe, loss="l2") if small else preset.recipe


def _plain_config(preset: Preset, clip: Clip) -> dict[str, Any]:
    from inr_train.start import model_config

    return model_config(clip, preset, {})


def _check_shapes(model: VideoModel, clip: Clip) -> None:
    expected = (2, 3, clip.info.height, clip.info.width)
    with torch.no_grad():
        inputs = model.sample([0.0, len(clip) - 1.0])
        found = model.decode(*inputs)
    shapes = tuple(tuple(x.shape[1:]) for x in inputs)
    _require(shapes == tuple(s[1:] for s in model.input_shapes()), f"sample gives {shapes}")
    _require(tuple(found.shape) == expected, f"decode gives {tuple(found.shape)}, expected {expected}")
    _require(bool(torch.isfinite(found).all()), "decode gives NaN or infinity")
    _require(count_parameters(model) > 0, "nothing is transmitted")


def _check_graph(model: VideoModel, traced: Trace, frames: int) -> None:
    parameters = dict(model.named_parameters())
    weights = [parameters[name] for name in traced.parameters]
    for t in (0.0, frames / 2 + 0.25, frames - 1.0):
        with torch.no_grad():
            inputs = model.sample([t])
            apart = (run_graph(traced.graph, inputs, weights) - model.decode(*inputs)).abs().max()
        _require(float(apart) < 1e-3, f"at t = {t:g} the graph is {float(apart):.2g} off")


def _check_report(checkpoint: Checkpoint) -> None:
    _require(np.isfinite(checkpoint.report["psnr_db"]), "training gives no finite PSNR")


def _check_file(checkpoint: Checkpoint, path: Path) -> None:
    model = checkpoint.build()
    traced = trace(model)
    weights = quantize_weights(model, traced, checkpoint.bits)
    times = quantize_grids(model, checkpoint.bits)
    info = checkpoint.info
    samples = [(tuple(torch.from_numpy(t.sample(float(i))) for t in times)) for i in range(info.frame_count)]
    tensors = [torch.from_numpy(w.dequantize()) for w in weights]
    ranges = measure_ranges(traced.graph, tensors, samples)
    with torch.no_grad():
        expected = [_picture(run_graph(traced.graph, inputs, tensors)) for inputs in samples]
    header = Header(info, checkpoint.model, bytes(16), (traced.graph,), {0: ranges})
    segment = Segment(
        0, 0, info.frame_count, tuple(weights), times, make_thumbnail(np.rint(expected[0]).astype(np.uint8))
    )
    write_nvb(path, header, [segment])
    for target, most in MEAN_ERROR.items():
        with open_video(path, target=target, threads=1) as video:
            apart = max(float(np.abs(video[i] - frame).mean()) for i, frame in enumerate(expected))
            video.at(0.5 / info.fps)
        _require(apart <= most, f"{target} is {apart:.1f} code values off on average")


def _picture(frame: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(frame[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise InrError(problem)
