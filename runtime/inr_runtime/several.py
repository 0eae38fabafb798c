"""Several frames in one run of a small network: much of a run of a millisecond is the same for any number of frames.

The engine for them is a second one, opened in the background while single frames are drawn, and only where enough
frames follow to pay for that (`python -m tests.bench.batches`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from inr_runtime.backends import Backend
from inr_runtime.background import Background
from inr_runtime.graph import CanonicalGraph
from inr_runtime.lower import Target
from inr_runtime.sample import TimeTensor
from inr_runtime.tiles import feed_at

FRAMES = {"cpu-int8": 4, "openvino-int8": 8}
"""In a run, by target. Integers are the same however many frames there are; floats may be added up in another order."""
MOST_MACS = 1 << 30
"""Of a frame: larger ones keep the cores busy by themselves, and more of them at once no longer fit in the caches."""
MOST_BYTES = 1 << 24
"""Of a frame's activations in float32: a graph of little arithmetic may need much memory, and more for several."""
LEAST_FRAMES = 300
"""That must follow."""
ALIKE = 0.5
"""Mean difference, in code values, of a frame from what a run of its own draws."""


def frames_at_once(graph: CanonicalGraph, target: Target, following: int) -> int:
    """How many frames to draw in one run where so many follow; 1 where single ones are as good."""
    small = graph.role == "frame" and graph.macs <= MOST_MACS and graph.activation_bytes <= MOST_BYTES
    return FRAMES.get(target.name, 1) if small and following >= LEAST_FRAMES else 1


class Several:
    """An engine for `count` frames at once, opened in the background by `open_engine`.

    drawn: the segment and the target that it is for. trusted: whether a frame of it was found to be what a run of its
    own draws.
    """

    def __init__(self, drawn: tuple[int, str], count: int, open_engine: Callable[[], Backend]) -> None:
        self.drawn, self.count, self.trusted = drawn, count, False
        self._opening = Background(open_engine)

    @property
    def ready(self) -> bool:
        """Whether it is open, or failed to be: then `draw` says why."""
        return self._opening.done

    def draw(self, graph: CanonicalGraph, tensors: Sequence[TimeTensor], first: int) -> list[NDArray[np.uint8]]:
        """Frames from `first` of the segment on, each uint8 (H, W, 3); raises what opening or running raises."""
        feeds = [feed_at(graph, tensors, float(first + i)) for i in range(self.count)]
        frames = self._opening.result().run({name: np.concatenate([f[name] for f in feeds]) for name in feeds[0]})
        return list(np.asarray(frames, np.uint8))

    def close(self) -> None:
        """Free the engine; waits for it where it is still being opened."""
        try:
            engine = self._opening.result()
        except Exception:
            return  # whoever drew with it has met the error
        engine.close()
