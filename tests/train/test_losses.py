"""Losses do what their names say."""

from __future__ import annotations

import pytest
import torch

from inr_train.losses import LOSSES


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_zero_on_equal_frames_and_positive_otherwise(name: str) -> None:
    loss = LOSSES[name](0.7)
    frame = torch.rand(1, 3, 16, 20)
    assert float(loss(frame, frame)) == pytest.approx(0, abs=1e-6)
    assert float(loss(frame, 1 - frame)) > 1e-3


@pytest.mark.parametrize(
    ("name", "parts"), [("l1_ssim", ("l1", "ssim")), ("l2_ssim", ("l2", "ssim")), ("l2_l1", ("l2", "l1"))]
)
def test_mixes_weigh_their_parts_by_alpha(name: str, parts: tuple[str, str]) -> None:
    a, b = torch.rand(2, 1, 3, 16, 16)
    first, second = (float(LOSSES[p](0.0)(a, b)) for p in parts)
    assert float(LOSSES[name](0.7)(a, b)) == pytest.approx(0.7 * first + 0.3 * second, rel=1e-5)
