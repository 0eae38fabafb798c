"""One decoded picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """Frame `index` (from 0) of a video, shown at `pts` seconds from its start.

    pixels: uint8 (height, width, 3) RGB. matrix: the colour matrix that YUV is made with, one of
    `inr_runtime.info.MATRICES`; the `matrix_used` of the video.
    """

    index: int
    pts: float
    pixels: NDArray[np.uint8]
    matrix: str = "bt601"

    def to_rgb(self) -> NDArray[np.uint8]:
        """The pixels: uint8 (height, width, 3), full range."""
        return self.pixels

    def to_yuv420(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Y (height, width) and U, V (half of each, rounded up): uint8, limited range."""
        from inr_runtime.media.colour import planes_of, rgb_to_yuv  # ffmpeg takes a while to import

        y, u, v = planes_of(rgb_to_yuv(self.pixels, self.matrix))
        return y.copy(), u.copy(), v.copy()
