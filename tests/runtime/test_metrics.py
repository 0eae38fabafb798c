"""Quality figures: known values, symmetry, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inr_runtime.metrics import luma, ms_ssim, psnr, psnr_yuv611

GREY = np.full((176, 192, 3), 128, np.uint8)


def picture(height: int = 176, width: int = 192, seed: int = 0) -> NDArray[np.uint8]:
    """Waves with a little noise, (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([128 + 90 * np.sin(x / (7 + c)) * np.cos(y / (11 + c)) for c in range(3)], axis=-1)
    noise = np.random.default_rng(seed).normal(0, 4, waves.shape)
    return np.clip(np.rint(waves + noise), 0, 255).astype(np.uint8)


def test_psnr_of_a_constant_error() -> None:
    assert psnr(GREY, GREY + np.uint8(1)) == pytest.approx(20 * np.log10(255))
    assert psnr(GREY + np.uint8(1), GREY) == psnr(GREY, GREY + np.uint8(1))
    black, white = np.zeros_like(GREY), np.full_like(GREY, 255)
    assert psnr(black, white) == 0.0


def test_equal_pictures_have_100_db() -> None:
    assert psnr(GREY, GREY) == psnr_yuv611(GREY, GREY, "bt601") == 100.0
    one_off = np.zeros((500, 500, 3), np.uint8)
    one_off[0, 0, 0] = 1
    assert psnr(one_off, np.zeros_like(one_off)) == 100.0


def test_yuv_psnr_weighs_luma_six_times() -> None:
    """Grey pictures differ in Y alone, by 17 steps of 219/255: U and V give 100 dB."""
    brighter = GREY + np.uint8(17)
    y_error = int(luma(brighter, "bt601")[0, 0]) - int(luma(GREY, "bt601")[0, 0])
    expected = (6 * 20 * np.log10(255 / y_error) + 100 + 100) / 8
    assert psnr_yuv611(GREY, brighter, "bt601") == pytest.approx(expected)


def test_the_matrix_matters_for_colours() -> None:
    a, b = picture(), picture(seed=1)
    b[..., 1] //= 2
    assert psnr_yuv611(a, b, "bt601") != psnr_yuv611(a, b, "bt709")


def test_luma_is_limited_range() -> None:
    assert luma(np.zeros((4, 6, 3), np.uint8), "bt709").tolist() == [[16] * 6] * 4
    assert luma(np.full((4, 6, 3), 255, np.uint8), "bt709").max() == 235


def test_ms_ssim_of_equal_pictures_is_1_and_falls_with_noise() -> None:
    a = picture()
    noise = np.random.default_rng(5).normal(0, 1, a.shape)
    scores = [ms_ssim(a, np.clip(a + level * noise, 0, 255).astype(np.uint8)) for level in (4, 16, 64)]
    assert ms_ssim(a, a) == 1.0
    assert [round(s, 1) for s in scores if s is not None] == sorted((round(s, 1) for s in scores if s), reverse=True)
    assert 1 > (scores[0] or 0) > (scores[1] or 0) > (scores[2] or 0) > 0


def test_ms_ssim_is_symmetric_and_a_mean_over_channels() -> None:
    a, b = picture(), picture(seed=1)
    whole = ms_ssim(a, b)
    assert whole == pytest.approx(ms_ssim(b, a))
    assert whole == pytest.approx(np.mean([ms_ssim(a[..., c], b[..., c]) for c in range(3)]))


def test_opposite_structure_counts_as_nothing() -> None:
    assert ms_ssim(picture(), 255 - picture()) == 0.0


@pytest.mark.parametrize(("size", "known"), [((161, 161), True), ((160, 400), False), ((400, 160), False)])
def test_small_pictures_have_no_ms_ssim(size: tuple[int, int], known: bool) -> None:
    assert (ms_ssim(picture(*size), picture(*size, seed=1)) is not None) == known


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
def test_shapes_and_types_must_agree(metric: object) -> None:
    assert callable(metric)
    with pytest.raises(ValueError, match="one shape"):
        metric(GREY, GREY[:-1])
    with pytest.raises(ValueError, match="uint8"):
        metric(GREY, GREY.astype(np.float32))
