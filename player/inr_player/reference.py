"""What a .nvb file is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from inr_runtime.media import Position


@dataclass(frozen=True)
class Reference:
    """What to compare with: anything that `open_media` reads.

    crop: cut out of it before scaling, as in `ReadOptions`. start: its frame that is the first one of the file.
    """

    path: str
    crop: tuple[int, int] | tuple[int, int, int, int] | None = None
    start: Position | None = None
