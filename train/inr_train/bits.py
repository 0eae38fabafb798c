"""How many bits the integers of a file have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inr_runtime.errors import InputError


@dataclass(frozen=True)
class Bits:
    """Of stored integers.

    weights: those that int8 engines read as integers. biases. floats: all other weights; 0 are the weights'. grids: of
    each grid, in the order of `VideoModel.grids`; none are the weights'. Raises `ValueError` out of 2 to 16, and grids
    out of 2 to 8.
    """

    weights: int = 8
    biases: int = 10
    floats: int = 0
    grids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "floats", self.floats or self.weights)
        object.__setattr__(self, "grids", tuple(self.grids))
        if not all(2 <= b <= 16 for b in (self.weights, self.biases, self.floats)):
            raise ValueError(f"weights and biases have 2 to 16 bits, found {self}")
        if not all(2 <= b <= 8 for b in self.grids):
            raise ValueError(f"grids have 2 to 8 bits, found {self.grids}")

    def by_grid(self, grids: Sequence[str]) -> dict[str, int]:
        """Bits of each of a model's grids; raises `InputError` where they are not as many."""
        if self.grids and len(self.grids) != len(grids):
            raise InputError(f"bits are given for {len(self.grids)} grids of a model that has {len(grids)}")
        return dict(zip(grids, self.grids or (self.weights,) * len(grids), strict=True))
