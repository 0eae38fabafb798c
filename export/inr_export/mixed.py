"""Mixed precision by measurement: layers that lose too much in int8 activations stay in float.

The file is imitated in PyTorch as cpu-int8 computes it, over frames spread evenly. Where integers lose more than a
budget against float activations with the same stored weights, one quantized edge at a time is left out, with what
reads and makes it (`int8plan.py`), and the edges with the best gain for their multiply-accumulates stay out until the
budget is met. Then those that turned out not to be needed return to integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from inr_export.stored import StoredModel
from inr_runtime.int8plan import Int8Plan, Range, int8_mac_share, plan_int8, plan_without
from inr_runtime.tensors import QuantTensor
from inr_train.checkpoint import Checkpoint
from inr_train.clip import Clip, spread
from inr_train.evaluate import frame_of
from inr_train.models import VideoModel
from inr_train.trace import Trace

INT8_BUDGET_DB = 0.15
"""What int8 activations may cost by default."""
WHOLE_LOSS = 4 / 3
"""What the file may lose against the float reference, in budgets: 0.2 dB, weights included."""
SEARCH_PIXELS, LEAST_FRAMES = 1 << 21, 4
BREAK_SHARE = 0.01
"""What it costs to leave integers and to return, as a share of the multiply-accumulates: so that few layers do it."""

Progress = Callable[[str, int, int], None]
Measure = Callable[[Sequence[str]], dict[str, Range]]


@dataclass(frozen=True)
class KeptFloat:
    """An edge that is not quantized, and what that is worth by itself.

    layers: the convolutions that run in float for it. mac_share: theirs, of the graph's multiply-accumulates. gain_db:
    PSNR against all in int8.
    """

    edge: str
    layers: tuple[str, ...]
    mac_share: float
    gain_db: float


@dataclass(frozen=True)
class MixedPrecision:
    """What runs on integers. ranges: of the edges that are quantized.

    all_int8_loss_db, loss_db: what int8 activations would lose without a layer in float, and with those that were kept,
    over `frames` frames.
    """

    ranges: Mapping[str, Range]
    int8_mac_share: float
    all_int8_loss_db: float
    loss_db: float
    frames: int
    kept_float: tuple[KeptFloat, ...] = ()


def mix_precision(
    checkpoint: Checkpoint,
    traced: Trace,
    weights: Sequence[QuantTensor],
    ranges: Mapping[str, Range],
    measure: Measure,
    clip: Clip | None = None,
    budget_db: float = INT8_BUDGET_DB,
    progress: Progress | None = None,
    original: VideoModel | None = None,
) -> MixedPrecision:
    """Find the layers that must stay float for int8 activations to lose at most `budget_db`.

    ranges: of every edge that the full plan quantizes. measure: gives ranges of others. clip: what the model was fitted
    to; without it the loss is estimated from the frames of `original`, the model before it was rounded or pruned.
    """
    search = _Search(checkpoint, traced, weights, dict(ranges), clip, progress, original)
    plan = plan_int8(traced.graph)
    if not plan.ranged or math.isinf(budget_db):
        return MixedPrecision(ranges, int8_mac_share(traced.graph, plan), 0.0, 0.0, 0)
    search.expect(2)
    exact, all_int8 = search.quality(None), search.quality(plan)
    dropped: list[str] = []
    best, gains = all_int8, {}
    goal = search.goal(exact, budget_db)
    if all_int8 < goal:
        search.ranges |= measure([edge for edge in plan.edges if edge not in ranges])
        gains = search.gains(plan, all_int8)
        dropped, best = search.choose(gains, goal)
    kept = tuple(gains[edge] for edge in dropped)
    mixed = plan_without(traced.graph, dropped) or plan
    used = {edge: search.ranges[edge] for edge in mixed.ranged}
    share = int8_mac_share(traced.graph, mixed)
    return MixedPrecision(used, share, exact - all_int8, exact - best, len(search.frames), kept)


class _Search:
    """Measures plans over some frames."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        traced: Trace,
        weights: Sequence[QuantTensor],
        ranges: dict[str, Range],
        clip: Clip | None,
        progress: Progress | None,
        original: VideoModel | None,
    ) -> None:
        self.checkpoint, self.traced, self.ranges, self.clip = checkpoint, traced, ranges, clip
        self.model, self.weights = checkpoint.build(), tuple(weights)
        info = checkpoint.info
        self.frames = spread(info.frame_count, max(LEAST_FRAMES, SEARCH_PIXELS // (info.width * info.height)))
        self.original, self.targets = original or self.model, dict[int, Tensor]()
        self.progress, self.done, self.total = progress, 0, 0

    def expect(self, runs: int) -> None:
        """Announce as many more measurements."""
        self.total += runs * len(self.frames)

    def goal(self, exact: float, budget_db: float) -> float:
        """The PSNR to reach: below the stored weights' by the budget, and within `WHOLE_LOSS` of the float model.

        The latter is known of all frames only, and where the weights lose much themselves, half the budget is left.
        """
        report, goal = self.checkpoint.report, exact - budget_db
        reference = report.get("psnr_float_8bit_db") or report.get("psnr_float_db")
        few = len(self.frames) < self.checkpoint.info.frame_count or self.checkpoint.recipe.get("every", 1) > 1
        if self.clip is None or reference is None or few:
            return goal
        return max(goal, min(exact - budget_db / 2, float(reference) - WHOLE_LOSS * budget_db))

    def quality(self, plan: Int8Plan | None) -> float:
        """PSNR in dB of a plan; None is float activations."""
        ranges = {edge: self.ranges[edge] for edge in plan.ranged} if plan else {}
        network = StoredModel(self.model, self.traced, self.checkpoint.bits, self.weights, ranges)
        errors = []
        for index in self.frames:
            errors.append(_distance(self._frame(network, index), self._target(index)))
            self.done += 1
            if self.progress:
                self.progress("mixed precision, frame", self.done, max(self.total, self.done))
        if self.clip is not None:
            return float(np.mean([-10 * math.log10(max(error, 1e-10)) for error in errors]))
        trained = self.checkpoint.report.get("psnr_db") or 40.0
        return float(-10 * math.log10(10 ** (-trained / 10) + float(np.mean(errors))))

    def _target(self, index: int) -> Tensor:
        """What a frame is compared with: (3, H, W), code values."""
        if self.clip is not None:
            return torch.from_numpy(self.clip.frames[index]).permute(2, 0, 1).float()
        if index not in self.targets:
            self.targets[index] = self._frame(self.original, index)
        return self.targets[index]

    @torch.no_grad()
    def _frame(self, network: nn.Module, index: int) -> Tensor:
        info = self.checkpoint.info
        frame = frame_of(network, index, (info.height, info.width))[0]
        return torch.round(frame.clamp(0, 1) * 255)

    def gains(self, full: Int8Plan, all_int8: float) -> dict[str, KeptFloat]:
        """What each edge that may be left out is worth, alone."""
        graph, share = self.traced.graph, int8_mac_share(self.traced.graph, full)
        plans = {edge: plan_without(graph, [edge]) for edge in full.ranged}
        self.expect(2 * len(plans))
        found = {}
        for edge, plan in plans.items():
            if plan is not None:
                gain = self.quality(plan) - all_int8
                layers = self._layers(full.int8 - plan.int8)
                found[edge] = KeptFloat(edge, layers, share - int8_mac_share(graph, plan), gain)
        return found

    def choose(self, gains: Mapping[str, KeptFloat], goal: float) -> tuple[list[str], float]:
        """Edges to leave out so that the quality reaches `goal`, and the quality that was measured."""
        order = sorted(gains, key=lambda edge: -gains[edge].gain_db / (gains[edge].mac_share + BREAK_SHARE))
        dropped: list[str] = []
        reached = -math.inf
        for edge in order:
            dropped.append(edge)
            reached = self._without(dropped)
            if reached >= goal:
                break
        for edge in sorted(dropped, key=lambda edge: -gains[edge].mac_share):
            fewer = [other for other in dropped if other != edge]
            quality = self._without(fewer) if fewer else -math.inf
            if quality >= goal:
                dropped, reached = fewer, quality
        return dropped, reached

    def _without(self, dropped: Collection[str]) -> float:
        plan = plan_without(self.traced.graph, dropped)
        return -math.inf if plan is None else self.quality(plan)

    def _layers(self, nodes: Collection[int]) -> tuple[str, ...]:
        """Names of the convolutions among some nodes, as the model calls them."""
        graph = self.traced.graph
        weights = dict(zip((p.name for p in graph.weights), self.traced.parameters, strict=True))
        convolutions = [graph.nodes[i] for i in sorted(nodes) if graph.nodes[i].op == "Conv"]
        return tuple(weights[node.inputs[1]].removesuffix(".weight") for node in convolutions)


def _distance(frame: Tensor, other: Tensor) -> float:
    """Mean squared difference of pictures in code values, in units of the largest."""
    return float((frame - other).square().mean() / 255**2)
