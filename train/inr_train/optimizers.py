"""Optimizers: Adam, and Muon for the matrices of hidden convolutions with Adam for everything else.

Muon (Jordan et al. 2024; for neural fields McGinnis et al. 2025, arXiv 2512.14366) replaces the momentum of a matrix by
the nearest matrix with orthonormal rows or columns, so that all directions are learned equally fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from inr_train.models import VideoModel
from inr_train.recipe import Recipe

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration that takes singular values to about 1 (Jordan et al. 2024)."""
ITERATIONS = 5
MOMENTUM = 0.95
HALF_SIDE = 128
"""Rows and columns from which matrices are orthogonalized in bf16 if wanted: smaller ones are faster in float32."""
LEAST_SIDE = 8
"""Rows and columns that a matrix needs: there is little to orthogonalize in smaller ones."""


@torch.no_grad()
def orthogonalized(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with singular values near 1 and their own singular vectors; zeros stay zeros.

    Every iteration multiplies x by a polynomial of x x^T. In float32 the product of these is made of that smaller
    square matrix alone. It magnifies small singular values hundreds of times as much as large ones, and its rounding
    with them: in bf16, where that would reach tens of times the result, x is multiplied at every iteration.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    if x.dtype == torch.float32:
        x = _product(x @ x.mT) @ x
    else:
        a, b, c = NEWTON_SCHULZ
        for _ in range(ITERATIONS):
            square = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _product(square: Tensor) -> Tensor:
    """What all iterations multiply x by; square: x x^T, (n, rows, rows)."""
    a, b, c = NEWTON_SCHULZ
    product = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device).expand_as(square)
    for i in range(ITERATIONS):
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
        product = torch.baddbmm(product, factor, product, beta=a)
        if i + 1 < ITERATIONS:
            root = torch.baddbmm(square, factor, square, beta=a)
            square = torch.baddbmm(root, root, factor, beta=a)
    return product


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for weights of two dimensions or more, taken as (outputs, everything else).

    A step moves every direction by lr * sqrt(max(1, rows / columns)). weight_decay: decoupled, per unit of lr. Weights
    of one shape are orthogonalized together; where `half` is set, large ones in bf16: singular values move by a few
    hundredths, and noise takes the place of what is smaller than bf16 can tell from nothing.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.half = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; weights without gradient stay."""
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((p.shape[0], p.numel() // p.shape[0]), []).append(p)
            for shape, weights in alike.items():
                self._move(weights, shape, group)

    def _move(self, weights: Sequence[Tensor], shape: tuple[int, ...], group: Mapping[str, Any]) -> None:
        lr, decay = group["lr"], group["weight_decay"]
        for p in weights:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in weights]
        gradients = [p.grad for p in weights if p.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        nesterov = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        stacked = torch.stack([n.reshape(shape) for n in nesterov])
        stacked = stacked.bfloat16() if self.half and min(shape) >= HALF_SIDE else stacked
        moves = orthogonalized(stacked).float().unbind()
        if decay:
            torch._foreach_mul_(list(weights), 1 - lr * decay)
        scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
        torch._foreach_add_(list(weights), [m.view(p.shape) for m, p in zip(moves, weights, strict=True)], alpha=-scale)


class Together:
    """Several optimizers as one. Every group has a `peak`: its learning rate where the schedule is at 1.

    scaler: of the loss, enabled where steps compute in fp16, in which small gradients would be nothing.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer], scaler: GradScaler | None = None) -> None:
        self.parts, self.scaler = tuple(parts), scaler or GradScaler(enabled=False)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def state_of(self, parameter: Tensor) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
        """What the part that moves a parameter remembers of it, and that part's type; None where nothing yet."""
        for part in self.parts:
            if parameter in part.state:
                return type(part), part.state[parameter]
        return None

    def schedule(self, share: float) -> None:
        """Set the learning rates: `share` of every group's peak."""
        for group in self.param_groups:
            group["lr"] = group["peak"] * share

    def backward(self, loss: Tensor) -> None:
        """The gradients of a loss take the place of those before."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        for part in self.parts:
            self.scaler.unscale_(part)

    def overflowed(self, norm: Tensor) -> bool:
        """Whether these gradients, of that norm, must be left since the loss was scaled by too much: by half now.

        False without a scaler, and where no scale would help: the gradients are what is not finite.
        """
        if not self.scaler.is_enabled():
            return False
        self.scaler.update()
        return not math.isfinite(float(norm)) and self.scaler.get_scale() >= 1

    def step(self, half: bool = False) -> None:
        """One step of every part; half: large matrices may be orthogonalized in bf16."""
        for part in self.parts:
            if isinstance(part, Muon):
                part.half = half
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors."""
        return {"parts": [part.state_dict() for part in self.parts], "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; raises `ValueError` where the parts differ."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.scaler.load_state_dict(state.get("scaler", {}))


def make_optimizer(model: VideoModel, network: nn.Module, recipe: Recipe, before: Together | None = None) -> Together:
    """The optimizer of a recipe for `network`, which is the model or imitates it with parameters of its own.

    before: the optimizer of the phase before; what it remembers of weights carries over.
    """
    named = dict(model.named_parameters())
    matrices = [named[n] for n in hidden_matrices(model)] if recipe.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    grids = [named[n] for n in model.grids]
    taken |= {id(p) for p in grids}
    own = {id(p) for p in named.values()}
    weights = [p for p in named.values() if id(p) not in taken]
    bounds = [p for p in network.parameters() if id(p) not in own]
    rate = recipe.learning_rate
    groups = [(weights, rate), (grids, rate * recipe.grid_rate), (bounds, rate)]
    adam = [{"params": p, "peak": peak} for p, peak in groups if p]
    parts: list[torch.optim.Optimizer] = [torch.optim.Adam(adam, lr=rate, betas=recipe.betas, fused=True)]
    if matrices:
        parts.append(Muon([{"params": matrices, "peak": recipe.muon_rate}], recipe.muon_rate, recipe.weight_decay))
    device = next(model.parameters()).device.type
    made = Together(parts, before.scaler if before else GradScaler(device, enabled=recipe.dtype == "fp16"))
    if before is not None:
        _carry_over(before, made)
    return made


def _carry_over(before: Together, after: Together) -> None:
    for part in after.parts:
        for p in (p for group in part.param_groups for p in group["params"]):
            known = before.state_of(p)
            if known is not None and known[0] is type(part):
                part.state[p] = known[1]


def hidden_matrices(model: VideoModel) -> tuple[str, ...]:
    """Names of the weights that Muon moves: of hidden layers; not the first or last, nor depthwise or tiny ones."""
    named = dict(model.named_parameters())
    return tuple(
        name
        for name in model.weights
        if named[name].ndim > 1
        and not name.startswith(model.edges)
        and min(named[name].shape[0], named[name].numel() // named[name].shape[0]) >= LEAST_SIDE
        and named[name].shape[1] > 1
    )
