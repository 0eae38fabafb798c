"""From any video file to frames, and from frames to any video file.

reader = open_media("clip.mp4", ReadOptions(size=(320, 180)))
reader.info                      # VideoInfo
for pixels in reader: ...        # uint8 (H, W, 3) RGB, one at a time

with open_writer("out.mkv", info) as writer:
    writer.write(frame)

What needs ffmpeg is imported when it is first used: a .nvb file is played without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inr_runtime.lazy import lazy_names
from inr_runtime.media.options import Position, ReadOptions, parse_crop, parse_position, parse_rate, parse_size

if TYPE_CHECKING:
    from inr_runtime.media.reader import MediaReader, open_media
    from inr_runtime.media.source import MediaWarning
    from inr_runtime.media.writer import Writer, check_target, open_writer

_HOMES = {
    "MediaReader": "reader",
    "MediaWarning": "source",
    "Writer": "writer",
    "check_target": "writer",
    "open_media": "reader",
    "open_writer": "writer",
}

__all__ = [
    "MediaReader",
    "MediaWarning",
    "Position",
    "ReadOptions",
    "Writer",
    "check_target",
    "open_media",
    "open_writer",
    "parse_crop",
    "parse_position",
    "parse_rate",
    "parse_size",
]

__getattr__ = lazy_names(__name__, _HOMES)
