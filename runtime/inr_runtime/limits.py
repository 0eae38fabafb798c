"""What a reader is willing to spend on a file that somebody sent."""

from __future__ import annotations

from dataclasses import dataclass

from inr_runtime.errors import LimitError


@dataclass(frozen=True)
class Limits:
    """Upper bounds checked before anything is allocated; raise one with `dataclasses.replace`.

    Units stand in the names; `macs_per_frame` and `activation_bytes` (needed at once) are per graph, `symbols` (stored
    integers) per segment, `chunks` are those beside the segments. `samples` are a sound's, in each channel; `tiles` are
    runs of a graph for one frame in its own size.
    """

    pixels: int = 8192 * 4320
    frames: int = 1_000_000
    samples: int = 1 << 30
    tiles: int = 1 << 16
    segments: int = 100_000
    chunks: int = 10_000
    tensors: int = 4096
    symbols: int = 200_000_000
    name_bytes: int = 256
    text_bytes: int = 1 << 16
    graphs: int = 16
    graph_nodes: int = 4096
    graph_bytes: int = 1 << 20
    macs_per_frame: int = 16_000_000_000_000
    activation_bytes: int = 8 << 30
    chunk_bytes: int = 1 << 30
    audio_bytes: int = 1 << 28

    def check(self, name: str, value: int, what: str) -> int:
        """Return `value` if it is at most the limit called `name`, else raise `LimitError`."""
        limit = int(getattr(self, name))
        if value > limit:
            raise LimitError(
                f"{what}: {value} is above the limit of {limit} ({name}), which no command raises; "
                f"from Python, Limits({name}=...) does"
            )
        return value


DEFAULT_LIMITS = Limits()
