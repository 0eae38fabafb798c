"""Where ONNX Runtime spends its time: every operator of the graph it really runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inr_runtime.backends.ort import OrtBackend
from inr_runtime.lower import Lowered

_END = "_kernel_time"


@dataclass(frozen=True)
class Timing:
    """One operator. name: as in the graph, by the edge it makes where it is ours. shape: of its first result.

    seconds: of each run, in order.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    seconds: tuple[float, ...]


class ProfiledOrt(OrtBackend):
    """An `OrtBackend` that keeps time in a folder of the caller's; raises what that raises."""

    def __init__(self, lowered: Lowered, threads: int, folder: Path) -> None:
        self._folder = folder
        super().__init__(lowered, threads)

    def _open(self) -> Any:
        self._options.enable_profiling = True
        self._options.profile_file_prefix = str(self._folder / "run")
        return super()._open()

    def timings(self) -> list[Timing]:
        """Of all runs until now, in the order in which operators run; the engine measures no further."""
        events = json.loads(Path(self._session.end_profiling()).read_text())
        nodes: dict[tuple[str, str], list[Any]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith(_END):
                key = event["name"].removesuffix(_END), event["args"]["op_name"]
                nodes.setdefault(key, []).append(event)
        return [
            Timing(name, op, _first_shape(runs[0]["args"]), tuple(run["dur"] / 1e6 for run in runs))
            for (name, op), runs in nodes.items()
        ]


def _first_shape(facts: Any) -> tuple[int, ...]:
    (shape,) = list(dict(next(iter(facts.get("output_type_shape") or [{"": []}]))).values())[:1]
    return tuple(shape)
