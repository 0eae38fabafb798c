"""From a decoded frame to the pixels that were asked for: cut, scaled, RGB, upright."""

from __future__ import annotations

from fractions import Fraction

import av

from inr_runtime.errors import MediaError
from inr_runtime.media.colour import (
    MATRIX_OF_TAG,
    crop_yuv,
    has_alpha,
    is_plain_yuv,
    over_black,
    scale_rgb,
    scale_yuv,
    to_rgb,
)
from inr_runtime.media.geometry import Pixels, Rect, window
from inr_runtime.media.options import ReadOptions
from inr_runtime.media.source import Source


class Converter:
    """Makes uint8 (height, width, 3) RGB of every frame of a source.

    size: (width, height) of what comes out. matrix: the colour matrix used. transparent: whether a
    pixel that was not opaque has been met so far.
    """

    def __init__(self, source: Source, options: ReadOptions) -> None:
        facts = self._facts = source.facts
        if facts.matrix_tag not in MATRIX_OF_TAG:
            raise MediaError(
                f"{source.path}: stored in colour matrix {facts.matrix_tag} of H.273, which cannot be converted; "
                "re-encode it as BT.709 first"
            )
        self.matrix = MATRIX_OF_TAG[facts.matrix_tag]
        self.transparent = False
        width, height = facts.turn.size(facts.width, facts.height)
        self._window = window(options.crop, width, height) if options.crop else Rect(0, 0, width, height)
        self.size = options.size or (self._window.width, self._window.height)
        self._stored = facts.turn.stored(self._window, width, height)
        self._scaled = self.size != (self._window.width, self._window.height)

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of an output pixel over its height, so that the picture keeps its shape."""
        aspect = self._facts.pixel_aspect
        upright = 1 / aspect if self._facts.turn.transpose else aspect
        stretch = Fraction(self._window.width * self.size[1], self._window.height * self.size[0])
        # Within a percent the size was only rounded to whole pixels.
        return upright if abs(stretch - 1) < Fraction(1, 100) else upright * stretch

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        pixels = self._from_yuv(frame) if is_plain_yuv(frame) else self._from_rgb(frame)
        return self._facts.turn.upright(pixels)

    def _from_rgb(self, frame: av.VideoFrame) -> Pixels:
        alpha = has_alpha(frame)
        pixels = to_rgb(frame, self.matrix, "rgba" if alpha else "rgb24")
        if alpha:
            self.transparent |= bool(pixels[..., 3].min() < 255)
            pixels = over_black(pixels)
        pixels = self._stored.cut(pixels)
        return scale_rgb(pixels, self._facts.turn.size(*self.size)) if self._scaled else pixels

    def _from_yuv(self, frame: av.VideoFrame) -> Pixels:
        if not self._scaled:
            return self._stored.cut(to_rgb(frame, self.matrix))
        if (self._stored.width, self._stored.height) != (frame.width, frame.height):
            frame = crop_yuv(frame, self._stored)
        return to_rgb(scale_yuv(frame, self._facts.turn.size(*self.size)), self.matrix)
