"""Pruning: take the least important weights of a network away, for good.

The score of a weight is |w| / P^power, P the number of weights that its tensor still has; the lowest scores of the
whole network go. Power 0 is global magnitude pruning (NeRV, Chen et al. 2021), 0.5 the adaptive pruning of HiNeRV
(Kwan et al. 2023): wide layers give up more, small late layers are protected.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from inr_runtime.errors import UsageError
from inr_train.checkpoint import Checkpoint
from inr_train.models import VideoModel

MAX_SPARSITY = 0.99

Masks = dict[str, Tensor]
"""By parameter name: bool, shape of the parameter, True where a weight is kept."""


def check_prunable(model: VideoModel) -> None:
    """Raise `UsageError` where a model has no weights that pruning may thin out."""
    if not model.prunable:
        raise UsageError(f"no weight of this {model.name} may be pruned; leave --prune out")


@torch.no_grad()
def prune(model: VideoModel, sparsity: float, power: float = 0.0) -> Masks:
    """Zero weights in place until the share `sparsity` of `model.prunable` is zero; returns which are kept.

    sparsity: 0 to `MAX_SPARSITY`, of the whole, not of what is left. Weights that are zero already go first. Raises
    `UsageError` where nothing may be pruned.
    """
    check_prunable(model)
    weights = {name: model.get_parameter(name) for name in model.prunable}
    scores = torch.cat([_scores(w, power).flatten() for w in weights.values()])
    count = round(sparsity * len(scores))
    kept = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    kept[torch.argsort(scores, stable=True)[:count]] = False
    pieces = kept.split([w.numel() for w in weights.values()])
    masks = {name: piece.view_as(w) for (name, w), piece in zip(weights.items(), pieces, strict=True)}
    apply_masks(model, masks)
    return masks


def _scores(weight: Tensor, power: float) -> Tensor:
    survivors = max(1, int(weight.count_nonzero()))
    shrink: float = float(survivors) ** power
    return weight.abs().double() / shrink


@torch.no_grad()
def apply_masks(model: VideoModel, masks: Masks) -> None:
    """Zero what was pruned, in place."""
    for name, mask in masks.items():
        model.get_parameter(name).mul_(mask)


@torch.no_grad()
def mask_gradients(model: VideoModel, masks: Masks) -> None:
    """Zero the gradients of what was pruned, in place, so that they do not count in the gradient's norm."""
    for name, mask in masks.items():
        gradient = model.get_parameter(name).grad
        if gradient is not None:
            gradient.mul_(mask)


def masks_of(model: VideoModel) -> Masks:
    """The masks of a network that was pruned before: what is zero stays zero."""
    return {name: model.get_parameter(name).detach() != 0 for name in model.prunable}


def sparsity_of(model: VideoModel) -> float:
    """Share of zeros among `model.prunable`."""
    chosen = [model.get_parameter(name) for name in model.prunable]
    return 1 - sum(int(p.count_nonzero()) for p in chosen) / max(1, sum(p.numel() for p in chosen))


def compress(checkpoint: Checkpoint, bits: int | None = None, sparsity: float = 0.0, power: float = 0.0) -> Checkpoint:
    """A trained model with other weight bits, or pruned, and not trained after it.

    Activation ranges that were trained for other integers are dropped. Raises `UsageError` on values out of range.
    """
    if not 0 <= sparsity <= MAX_SPARSITY or not 2 <= (bits or 8) <= 8:
        raise UsageError(f"sparsity lies in 0 to {MAX_SPARSITY}, weight bits in 2 to 8")
    if bits in (None, checkpoint.weight_bits) and not sparsity:
        return checkpoint
    model, report = checkpoint.build(), dict(checkpoint.report)
    if sparsity:
        prune(model, sparsity, power)
        report["sparsity"] = sparsity_of(model)
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    return replace(
        checkpoint,
        weights=weights,
        weight_bits=bits or checkpoint.weight_bits,
        float_bits=bits or checkpoint.float_bits,
        grid_bits=checkpoint.grid_bits if bits is None else (),
        ranges={},
        graph_digest="",
        report=report,
    )
