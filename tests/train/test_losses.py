"""Losses do what their names say."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import ms_ssim

from inr_train.losses import LOSSES, least_side


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_zero_on_equal_frames_and_positive_otherwise(name: str) -> None:
    loss = LOSSES[name](0.7)
    frame = torch.rand(1, 3, least_side(name), least_side(name) + 4)
    assert float(loss(frame, frame)) == pytest.approx(0, abs=1e-6)
    assert float(loss(frame, 1 - frame)) > 1e-3


@pytest.mark.parametrize(
    ("name", "parts"), [("l1_ssim", ("l1", "ssim")), ("l2_ssim", ("l2", "ssim")), ("l2_l1", ("l2", "l1"))]
)
def test_mixes_weigh_their_parts_by_alpha(name: str, parts: tuple[str, str]) -> None:
    a, b = torch.rand(2, 1, 3, 16, 16)
    first, second = (float(LOSSES[p](0.0)(a, b)) for p in parts)
    assert float(LOSSES[name](0.7)(a, b)) == pytest.approx(0.7 * first + 0.3 * second, rel=1e-5)


def test_ms_ssim_has_windows_of_five_taps() -> None:
    a, b = torch.rand(2, 1, 3, 66, 80)
    multi_scale = 1 - float(ms_ssim(a, b, data_range=1.0, win_size=5))
    mixed = float(LOSSES["l1_msssim"](0.7)(a, b))
    assert mixed == pytest.approx(0.7 * float(LOSSES["l1"](0.0)(a, b)) + 0.3 * multi_scale, rel=1e-5)
    assert least_side("l1_msssim") == 65
