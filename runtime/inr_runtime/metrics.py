"""How far two pictures are apart: PSNR of RGB and of YUV, and MS-SSIM. Frames are uint8; arithmetic is float64."""

from __future__ import annotations

from math import log10

import numpy as np
from numpy.typing import NDArray

from inr_runtime.media.colour import planes_of, rgb_to_yuv

Pixels = NDArray[np.uint8]
_Floats = NDArray[np.float64]

PSNR_CAP_DB = 100.0
"""PSNR of equal pictures, so that means stay finite; closer than this no 8-bit frames differ noticeably."""

_SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
_TAPS, _SIGMA = 11, 1.5
_SMALLEST_SIDE = (_TAPS - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_BLOCK = 32


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB of two uint8 arrays of one shape, over all their values together; at most `PSNR_CAP_DB`.

    For RGB frames (H, W, 3) this is the RGB PSNR of the papers. Raises `ValueError` where shapes differ.
    """
    _check_pair(a, b)
    difference = a.astype(np.int32) - b
    error = float(np.square(difference).mean(dtype=np.float64)) / 255**2
    return min(PSNR_CAP_DB, -10 * log10(error)) if error else PSNR_CAP_DB


def psnr_yuv611(a: Pixels, b: Pixels, matrix: str) -> float:
    """(6 PSNR(Y) + PSNR(U) + PSNR(V)) / 8 in dB of the 4:2:0 planes of two RGB frames, uint8 (H, W, 3).

    matrix: one of `inr_runtime.info.MATRICES`, with which both become limited-range YUV.
    """
    _check_pair(a, b)
    first, second = rgb_to_yuv(a, matrix), rgb_to_yuv(b, matrix)
    y, u, v = (psnr(p, q) for p, q in zip(planes_of(first), planes_of(second), strict=True))
    return (6 * y + u + v) / 8


def luma(frame: Pixels, matrix: str) -> Pixels:
    """The Y plane, uint8 (H, W), limited range, of an RGB frame (H, W, 3); for `ms_ssim` of brightness alone."""
    return np.array(planes_of(rgb_to_yuv(frame, matrix))[0], np.uint8)


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Multi-scale SSIM in [0, 1] of uint8 (H, W, C), averaged over the channels, or of (H, W).

    Wang, Simoncelli and Bovik 2003: five scales, an 11-tap Gaussian of sigma 1.5 at whole windows only, data range
    255; negative structure counts as 0. None where a side is 160 pixels or less, too small for the fifth scale.
    Raises `ValueError` where shapes differ.
    """
    _check_pair(a, b)
    if min(a.shape[:2]) < _SMALLEST_SIDE:
        return None
    channels = zip(*(np.moveaxis(np.atleast_3d(x), 2, 0).astype(np.float64, order="C") for x in (a, b)), strict=True)
    return float(np.mean([_ms_ssim_plane(x, y) for x, y in channels]))


def _check_pair(a: Pixels, b: Pixels) -> None:
    if a.shape != b.shape:
        raise ValueError(f"frames of one shape are needed, found {a.shape} and {b.shape}")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"uint8 frames are needed, found {a.dtype} and {b.dtype}")


def _ms_ssim_plane(a: _Floats, b: _Floats) -> float:
    terms = []
    for scale in range(len(_SCALE_WEIGHTS)):
        if scale:
            a, b = _halve(a), _halve(b)
        whole, structure = _ssim(a, b)
        terms.append(max(structure, 0.0))
    terms[-1] = max(whole, 0.0)
    return float(np.prod(np.array(terms) ** _SCALE_WEIGHTS))


def _ssim(a: _Floats, b: _Floats) -> tuple[float, float]:
    """Mean SSIM and mean of its contrast-structure part, of two planes (H, W)."""
    mean_a, mean_b = _blur(a), _blur(b)
    mean_squares, mean_product = mean_a**2 + mean_b**2, mean_a * mean_b
    variances = _blur(a * a + b * b) - mean_squares
    covariance = _blur(a * b) - mean_product
    structure = (2 * covariance + _C2) / (variances + _C2)
    luminance = (2 * mean_product + _C1) / (mean_squares + _C1)
    return float((luminance * structure).mean()), float(structure.mean())


def _halve(plane: _Floats) -> _Floats:
    """Averages of 2x2 pixels; an odd side gets a row of zeros in front, as in the implementation all papers use."""
    height, width = plane.shape
    even = np.pad(plane, ((height % 2, 0), (width % 2, 0)))
    return np.asarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4, np.float64)


def _blur(plane: _Floats) -> _Floats:
    """Gaussian-weighted windows of (H, W), valid ones only, transposed: (W - 10, H - 10)."""
    return _blur_columns(_blur_columns(plane).T)


def _blur_columns(plane: _Floats) -> _Floats:
    # Blocks of rows times one banded matrix: four times the multiplications, yet far faster than adding shifted planes.
    rows = len(plane) - _TAPS + 1
    padded = np.pad(plane, ((0, -rows % _BLOCK), (0, 0)))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, _BLOCK + _TAPS - 1, axis=0)[::_BLOCK]
    blurred: _Floats = _BAND @ blocks.swapaxes(1, 2)
    return blurred.reshape(-1, plane.shape[1])[:rows]


def _band() -> _Floats:
    """(32, 42): the Gaussian's taps, one place further in every row."""
    taps = np.exp(-((np.arange(_TAPS) - _TAPS // 2) ** 2) / (2 * _SIGMA**2))
    band = np.zeros((_BLOCK, _BLOCK + _TAPS - 1))
    for row in range(_BLOCK):
        band[row, row : row + _TAPS] = taps / taps.sum()
    return band


_BAND = _band()
