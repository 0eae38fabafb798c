"""How to train, as data: phases in order, each a share of the same schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from inr_runtime.errors import InputError
from inr_train.bits import Bits
from inr_train.losses import LOSSES

QUANTIZE = ("none", "weights", "int8")
MAX_SPARSITY, TOO_MANY_EPOCHS = 0.99, 1e9
OPTIMIZERS = ("adam", "muon")
DECAYS = ("cosine", "linear")
EVALUATIONS, EPOCHS_BETWEEN_EVALUATIONS = 10, 5
"""How many evaluations a run has, about; fewer in a short one, because each costs a third to a half of an epoch."""
RACE_SHARE, LEAST_RACE_STEPS = 0.02, 10
"""Of all steps: how many each candidate takes, and how many at least."""
PRUNED_SHARE = 0.3
"""Of the steps without quantization: how many come after pruning."""
TAIL_SHARE = 0.1
"""Of all steps: how many imitate integers where compensated rounding alone would lose too much."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    share: of all steps; 0 trains nothing: the best weights of the phase before are rounded. quantize: what is imitated
    in the forward pass (`none`; `weights` as stored; `int8`: weights and activations as cpu-int8 computes them).
    branch: start from here, record the result as the float reference in the report, then go back to where it started:
    the rest of the schedule once more without compression. sparsity: the share of the prunable weights that are zero
    from the beginning of this phase to the end of the run; 0 changes nothing. noise: share of the weights that are
    imitated as integers in a step, drawn anew for each; 1 is ordinary quantization-aware training, less is Quant-Noise
    (Fan et al. 2021), of which HiNeRV uses 0.9.
    """

    name: str
    share: float
    quantize: str = "none"
    branch: bool = False
    sparsity: float = 0.0
    noise: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    epochs: passes over the clip, perhaps a part of one. batch_size: frames a step; of networks that learn from pixels,
    those. loss and alpha: see `losses.py`. learning_rate: peak; linear warm-up over the share `warmup` of all steps,
    then by `decay` (`cosine` or `linear`) to zero. betas: of Adam. optimizer: `adam`, or `muon` (see `optimizers.py`),
    which moves hidden matrices by the peak muon_rate and weight_decay beside Adam for the rest. grid_rate: of grids, as
    a multiple of the learning rate. clip_norm: of the gradient. weight_bits, bias_bits: of the stored integers.
    float_bits: of the weights of layers that compute in float everywhere, at least weight_bits; 0 leaves it to a
    measurement when quantization begins (`rounding.py`), which then also finds grid_bits, those of each grid; none are
    the weight bits. prune_power: see `pruning.py`; 0 prunes by magnitude, 0.5 adaptively. phases: shares of those that
    are no branches add up to 1. until_psnr: dB at which phases without quantization end early, 0 for never. candidates:
    how many random beginnings race for being continued (`race.py`). compiled: what is drawn in steps without
    quantization goes through torch.compile (`compiled.py`). dtype: `bf16` (autocast), `fp16` (and its loss scaled)
    or `fp32`, "" to take the faster of the first and the last here; threads: 0 likewise. Both, and the milliseconds of
    a step, of an evaluation, of rounding and of finding ranges, are settled once before the first step; where a time
    budget is fitted again, they and the epochs become those of the run so far (`budget.py`). every: evaluations compare
    one of so many frames; more than 1 only where a time budget is too short for all of them.
    """

    name: str
    epochs: float
    phases: tuple[Phase, ...]
    batch_size: int = 1
    loss: str = "l1_fft"
    alpha: float = 0.3
    learning_rate: float = 5e-3
    warmup: float = 0.05
    decay: str = "cosine"
    betas: tuple[float, float] = (0.9, 0.99)
    optimizer: str = "adam"
    muon_rate: float = 0.02
    weight_decay: float = 0.0
    grid_rate: float = 1.0
    clip_norm: float = 1.0
    weight_bits: int = 8
    bias_bits: int = 10
    float_bits: int = 0
    grid_bits: tuple[int, ...] = ()
    prune_power: float = 0.0
    dtype: str = ""
    threads: int = 0
    candidates: int = 1
    compiled: bool = False
    until_psnr: float = 0.0
    ms_per_step: float = 0.0
    ms_per_quantized_step: float = 0.0
    ms_per_evaluation: float = 0.0
    ms_per_rounding: float = 0.0
    ms_per_ranging: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(p if isinstance(p, Phase) else Phase(**p) for p in self.phases))
        object.__setattr__(self, "betas", tuple(self.betas))
        total = sum(p.share for p in self.phases if not p.branch)
        shared_out = abs(total - 1) <= 1e-6 and all(0 <= p.share <= 1 for p in self.phases)  # not so where one is NaN
        if not shared_out or any(p.quantize not in QUANTIZE for p in self.phases):
            raise ValueError(f"phases must share out 1 and quantize one of {QUANTIZE}, found {self.phases}")
        if any(not p.share and (p.branch or p.sparsity or p.quantize == "none") for p in self.phases):
            raise ValueError(f"a phase without steps can only quantize, found {self.phases}")
        if self.phases[-1].branch:
            raise ValueError(f"a run ends with its last phase, which cannot be a branch, found {self.phases}")
        if any(not p.share for p in self.phases[:-1]):
            raise ValueError(f"a phase without steps is the last, found {self.phases}")
        if self.dtype not in ("", "bf16", "fp16", "fp32"):
            raise ValueError(f"dtype {self.dtype!r} is not bf16, fp16 or fp32")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas) or self.threads < 0:
            raise ValueError("betas are two numbers from 0 to below 1, and threads 0 or more")
        if self.decay not in DECAYS:
            raise ValueError(f"rates decay by one of {DECAYS}")
        if not 0 < self.grid_rate <= 100 or not 0 <= self.until_psnr <= 100:
            raise ValueError("the rate of grids lies in 0 to 100, PSNR ends at 100 dB")
        if any(not 0 <= p.sparsity <= MAX_SPARSITY for p in self.phases) or not 0 <= self.prune_power <= 4:
            raise ValueError(f"sparsity lies in 0 to {MAX_SPARSITY}, the power of pruning in 0 to 4")
        if any(not 0 < p.noise <= 1 for p in self.phases):
            raise ValueError("the share of imitated weights lies above 0, up to 1")
        if not (
            0 < self.learning_rate <= 10 and 0 <= self.alpha <= 1e3 and self.clip_norm > 0 and self.bias_bits <= 16
        ):
            raise ValueError("learning rate lies in 0 to 10, alpha is not negative, clip norm is positive")
        if self.optimizer not in OPTIMIZERS or not (0 < self.muon_rate <= 1 and 0 <= self.weight_decay <= 10):
            raise ValueError(f"the optimizer is one of {OPTIMIZERS}, Muon's rate lies in 0 to 1, its decay in 0 to 10")
        if self.float_bits and not self.weight_bits <= self.float_bits <= 16:
            raise ValueError(f"float bits lie in {self.weight_bits} (the weight bits) to 16; 0 measures")
        if self.every < 1:
            raise ValueError("evaluations compare one of at least one frame")
        if not 1 <= self.candidates <= 100:
            raise ValueError("1 to 100 candidates race")
        first = self.phases[0]
        if self.candidates > 1 and (first.quantize != "none" or first.sparsity or first.branch):
            raise ValueError("candidates race in a first phase that is no branch, without quantization and pruning")
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; known: {', '.join(LOSSES)}")
        if (
            not 0 < self.epochs < TOO_MANY_EPOCHS
            or self.batch_size < 1
            or not 0 <= self.warmup < 1
            or not 2 <= self.weight_bits <= 8
        ):
            raise ValueError(
                "epochs are positive, the batch size starts at 1, warm-up lies in [0, 1), weight bits in 2 to 8"
            )
        object.__setattr__(self, "grid_bits", self.bits.grids)

    @property
    def bits(self) -> Bits:
        """Of the integers that a run ends with."""
        return Bits(self.weight_bits, self.bias_bits, self.float_bits, self.grid_bits)

    def for_grids(self, count: int) -> Recipe:
        """The same recipe, but for bits that were measured for a network with another number of grids."""
        return self if len(self.grid_bits) in (0, count) else replace(self, float_bits=0, grid_bits=())

    @property
    def rounds(self) -> bool:
        """Whether a run ends with integer weights."""
        return self.phases[-1].quantize != "none"

    def steps(self, frames: int) -> int:
        """Optimizer steps of the whole run, branches not counted; at least one a phase."""
        main_phases = sum(not p.branch and p.share > 0 for p in self.phases)
        return max(main_phases, round(self.epochs * max(1, frames // self.batch_size)))

    def spans(self, frames: int) -> list[tuple[int, int]]:
        """First and one past last step of each phase; a branch runs over the steps that follow it."""
        total, begin, spans = self.steps(frames), 0, []
        for i, phase in enumerate(self.phases):
            following = sum(not p.branch and p.share > 0 for p in self.phases[i + 1 :])
            end = min(max(begin + 1, begin + round(phase.share * total)), total - (0 if phase.branch else following))
            spans.append((begin, begin if not phase.share else total if following == 0 else end))
            begin = begin if phase.branch else spans[-1][1]
        return spans

    def cost(self, phase: int) -> float:
        """Expected milliseconds of one step of a phase; 1 where nothing was measured."""
        plain = self.phases[phase].quantize == "none"
        return (self.ms_per_step if plain else self.ms_per_quantized_step) or 1.0

    def total_cost(self, frames: int) -> float:
        """Expected milliseconds of all phases, branches, evaluations, rounding and the race too."""
        lengths = [end - begin for begin, end in self.spans(frames)]
        raced = (self.candidates - 1) * self.race_steps(frames) * self.cost(0)
        others = self.ms_per_rounding * self.rounds + self.ms_per_ranging * self.ranged(len(self.phases))
        return sum(n * self.cost(i) for i, n in enumerate(lengths)) + self.evaluation_cost(frames) + raced + others

    def ranged(self, phases: int) -> int:
        """How many of the first phases begin by measuring ranges."""
        return sum(phase.quantize == "int8" for phase in self.phases[:phases])

    def evaluation_cost(self, frames: int) -> float:
        """Expected milliseconds of all evaluations, the one after rounding too."""
        lengths = (end - begin for begin, end in self.spans(frames))
        return (sum(-(-length // self.interval(frames)) for length in lengths) + self.rounds) * self.ms_per_evaluation

    def race_steps(self, frames: int) -> int:
        """Steps of each candidate; 0 where there is one."""
        wanted = max(LEAST_RACE_STEPS, round(RACE_SHARE * self.steps(frames)))
        return min(wanted, self.spans(frames)[0][1] - 1) if self.candidates > 1 else 0

    def interval(self, frames: int) -> int:
        """Steps between evaluations; every phase ends with one too."""
        steps, wanted, between = self.steps(frames), EVALUATIONS, EPOCHS_BETWEEN_EVALUATIONS
        if self.until_psnr:  # to end soon after it is reached
            wanted, between = 4 * EVALUATIONS, 1
        return max(1, steps // wanted, round(between * steps / self.epochs))

    def schedule(self, step: int, total: int) -> float:
        """Share of the peak learning rates: linear warm-up, then half a cosine or a line to zero."""
        warm = max(1, round(self.warmup * total))
        if step < warm:
            return (step + 1) / warm
        gone = (step - warm) / max(1, total - warm)
        return 1 - gone if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * gone))

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        data = asdict(self)
        lists = ("phases", "betas", "grid_bits")
        return {**data, **{name: list(data[name]) for name in lists}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Inverse of `to_dict`; raises `InputError` on anything unexpected."""
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise InputError(f"the recipe is not valid: {error}") from error


def with_goal(recipe: Recipe, quantize: str | None = None, sparsity: float = 0.0, trained: bool = False) -> Recipe:
    """The same recipe for another goal, in as many steps.

    quantize: `int8`, `weights`, or `none` for a float model; None leaves it. sparsity: prune so much, at once where the
    run starts from trained weights, else when most of the fitting is done.
    """
    phases = _with_tail(recipe, quantize)
    if quantize == "none":
        kept = [p for p in phases if p.quantize == "none" and not p.branch] or [Phase("fit", 1.0)]
        phases = tuple(replace(p, share=p.share / sum(p.share for p in kept)) for p in kept)
    elif quantize:
        phases = tuple(replace(p, quantize=quantize if p.quantize != "none" else "none") for p in phases)
    if sparsity and (trained or phases[0].quantize != "none"):
        phases = (replace(phases[0], sparsity=sparsity), *phases[1:])
    elif sparsity:
        phases = _pruned_late(phases, sparsity)
    return replace(recipe, phases=phases)


def with_noise(recipe: Recipe, noise: float) -> Recipe:
    """The same recipe with a share of the weights imitated in each step, where phases imitate them."""
    phases = tuple(replace(p, noise=noise) if p.quantize != "none" else p for p in recipe.phases)
    return replace(recipe, phases=phases)


def _with_tail(recipe: Recipe, quantize: str | None) -> tuple[Phase, ...]:
    """Rounding without steps is for 8 bits and float activations: train for anything coarser."""
    phases, last = recipe.phases, recipe.phases[-1]
    if last.share or not (quantize == "int8" or recipe.weight_bits < 8 or last.noise < 1):
        return phases
    before = tuple(replace(p, share=p.share * (1 - TAIL_SHARE)) for p in phases[:-1])
    reference = Phase("float reference", TAIL_SHARE, branch=True)
    return (*before, reference, replace(last, share=TAIL_SHARE))


def _pruned_late(phases: tuple[Phase, ...], sparsity: float) -> tuple[Phase, ...]:
    """Prune within the first phase; the float reference branches off before it, so that it keeps all weights."""
    first, rest = phases[0], [p for p in phases[1:] if not p.branch]
    fit = replace(first, share=first.share * (1 - PRUNED_SHARE))
    reference = Phase("float reference", 1 - fit.share, branch=True)
    return (fit, reference, Phase("prune", first.share * PRUNED_SHARE, sparsity=sparsity), *rest)


def fine_tuning(recipe: Recipe) -> Recipe:
    """The same recipe for weights that are trained already: a quarter of the epochs, half the learning rates."""
    phases = (Phase("fine-tune", 0.5), Phase("int8", 0.5, quantize="int8"))
    slower = replace(recipe, learning_rate=recipe.learning_rate / 2, muon_rate=recipe.muon_rate / 2)
    return replace(slower, name=f"{recipe.name} fine-tuning", epochs=max(1, recipe.epochs // 4), phases=phases)
