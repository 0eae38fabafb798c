"""Between YUV as files hold it and RGB as the project computes with it.

The rule: BT.601, limited range, unless the file is tagged otherwise. libswscale does the arithmetic,
so an untagged file gives the RGB that every tool built on it gives, bit for bit.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from inr_runtime.media.geometry import Pixels, Rect

MATRIX_OF_TAG = {
    **dict.fromkeys((0, 2, 3, 4, 5, 6), "bt601"),
    **dict.fromkeys((1, 7), "bt709"),
    **dict.fromkeys((9, 10), "bt2020"),
}
"""The matrix used for each H.273 tag; 240M (7) is within a code value of BT.709, FCC (4) of BT.601."""

TAG_OF_MATRIX = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""The H.273 tag to write for each matrix."""

_SWS_MATRIX = {"bt601": 5, "bt709": 1, "bt2020": 9}
LIMITED, FULL = 1, 2


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether the frame holds RGB, or indices of RGB colours."""
    return frame.format.is_rgb or frame.format.has_palette


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the frame can hold transparent pixels."""
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def is_plain_yuv(frame: av.VideoFrame) -> bool:
    """Whether the frame has a luma and two chroma components and nothing else."""
    return not is_rgb(frame) and len(frame.format.components) == 3


def is_full_range(frame: av.VideoFrame) -> bool:
    """Whether black and white are 0 and 255, as in RGB and JPEG, and not 16 and 235."""
    return is_rgb(frame) or frame.color_range == FULL or frame.format.name.startswith("yuvj")


def to_rgb(frame: av.VideoFrame, matrix: str, format: str = "rgb24") -> Pixels:
    """Convert a decoded frame to uint8 (H, W, 3), or (H, W, 4) where `format` is "rgba"."""
    if is_rgb(frame):
        return _uint8(frame.reformat(format=format).to_ndarray())
    frame.colorspace = TAG_OF_MATRIX[matrix]
    converted = frame.reformat(
        format=format,
        src_colorspace=_SWS_MATRIX[matrix],
        dst_colorspace=_other(matrix),
        src_color_range=_range(frame),
        dst_color_range=FULL,
    )
    return _uint8(converted.to_ndarray())


def rgb_to_yuv(pixels: Pixels, matrix: str, format: str = "yuv420p") -> av.VideoFrame:
    """Convert uint8 (H, W, 3) RGB to a limited-range frame of `format`, any size, odd ones too."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
    frame.colorspace = TAG_OF_MATRIX[matrix]
    converted = frame.reformat(
        format=format,
        src_colorspace=_other(matrix),
        dst_colorspace=_SWS_MATRIX[matrix],
        src_color_range=FULL,
        dst_color_range=LIMITED,
    )
    converted.colorspace, converted.color_range = TAG_OF_MATRIX[matrix], LIMITED
    return converted


def scale_yuv(frame: av.VideoFrame, size: tuple[int, int]) -> av.VideoFrame:
    """Scale to (width, height) in limited-range YUV 4:2:0 with the bicubic filter."""
    scaled = frame.reformat(
        *size,
        format="yuv420p",
        interpolation="BICUBIC",
        src_color_range=_range(frame),
        dst_color_range=LIMITED,
    )
    scaled.color_range = LIMITED
    return scaled


def scale_rgb(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale uint8 (H, W, 3) to (width, height), bicubic, each channel by itself: libswscale would go through YUV."""
    channels = [av.VideoFrame.from_ndarray(np.ascontiguousarray(c), "gray") for c in np.moveaxis(pixels, 2, 0)]
    return np.stack([_uint8(c.reformat(*size, interpolation="BICUBIC").to_ndarray()) for c in channels], axis=2)


def planes_of(frame: av.VideoFrame) -> tuple[Pixels, ...]:
    """Views of the planes of an 8-bit planar frame, uint8 (h, w) each, without padding."""
    planes: tuple[Any, ...] = frame.planes
    return tuple(
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width] for plane in planes
    )


def crop_yuv(frame: av.VideoFrame, window: Rect) -> av.VideoFrame:
    """Cut a window out of a frame, as limited-range YUV 4:2:0; its x and y are rounded down to even."""
    whole = frame.reformat(format="yuv420p", src_color_range=_range(frame), dst_color_range=LIMITED)
    part = av.VideoFrame(window.width, window.height, "yuv420p")
    for target, origin, step in zip(planes_of(part), planes_of(whole), (1, 2, 2), strict=True):
        top, left = window.y // 2 * 2 // step, window.x // 2 * 2 // step
        target[:] = origin[top : top + target.shape[0], left : left + target.shape[1]]
    part.colorspace, part.color_range = frame.colorspace, LIMITED
    return part


def over_black(rgba: Pixels) -> Pixels:
    """Draw uint8 (H, W, 4) over black: uint8 (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)


def _range(frame: av.VideoFrame) -> int:
    return FULL if is_full_range(frame) else LIMITED


def _other(matrix: str) -> int:
    # PyAV before 17 looks at ranges and matrices only where the two sides' matrices differ; RGB has none.
    return _SWS_MATRIX["bt709" if matrix == "bt601" else "bt601"]


def _uint8(array: NDArray[np.generic]) -> Pixels:
    return np.asarray(array, dtype=np.uint8)
