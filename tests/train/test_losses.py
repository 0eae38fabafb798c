"""Losses do what their names say."""

from __future__ import annotations

import pytest
import torch
from pytorch_msssim import ms_ssim

from inr_train.losses import LOSSES, fft_l1, least_side


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


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 4), (4, 7), (9, 16), (90, 160)])
def test_the_gradient_of_the_fourier_loss_is_autograds(size: tuple[int, int]) -> None:
    a, b = torch.rand(2, 2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a.requires_grad_()
    reference = torch.fft.rfft2(a - b, norm="ortho").abs().mean()
    (expected,) = torch.autograd.grad(reference, a)
    loss = fft_l1(a, b)
    (found,) = torch.autograd.grad(3 * loss, a)
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(found, 3 * expected)
    assert not torch.autograd.grad(fft_l1(a, a.detach()), a)[0].any()
