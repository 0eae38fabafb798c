"""MS-SSIM without PyTorch gives the figures of the package that papers use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import pytorch_msssim
import torch
from numpy.typing import NDArray

from inr_runtime.metrics import ms_ssim, psnr
from inr_train.evaluate import psnr as psnr_of_tensors


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors are faster without the wait for other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(height: int, width: int, noise: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Waves, and the same with noise."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 90 * np.sin(x / (5 + 4 * c)) * np.cos(y / (9 + c)) for c in range(3)], axis=-1)
    noisy = waves + np.random.default_rng(height).normal(0, noise, waves.shape)
    first, second = (np.clip(np.rint(v), 0, 255).astype(np.uint8) for v in (waves, noisy))
    return first, second


def as_batch(frame: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.atleast_3d(frame)).permute(2, 0, 1)[None].float()


# Odd sides are padded before they are halved; every scale of these has another parity.
@pytest.mark.parametrize("size", [(161, 161), (180, 320), (181, 323), (171, 250)])
@pytest.mark.parametrize("noise", [2.0, 60.0])
def test_ms_ssim_agrees(size: tuple[int, int], noise: float) -> None:
    a, b = pair(*size, noise)
    for first, second in ((a, b), (a[..., 0], b[..., 0])):
        expected = pytorch_msssim.ms_ssim(as_batch(first), as_batch(second), data_range=255)
        assert ms_ssim(first, second) == pytest.approx(float(expected), abs=1e-4)


def test_psnr_agrees_with_the_one_of_training() -> None:
    a, b = pair(90, 160, 10.0)
    assert psnr(a, b) == pytest.approx(float(psnr_of_tensors(as_batch(a) / 255, as_batch(b) / 255)), abs=1e-4)
