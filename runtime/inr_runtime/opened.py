"""What all open .nvb files have in common: the file, and the engine of the segment that is being played."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_runtime.backends import Backend, open_backend
from inr_runtime.chunks import Header
from inr_runtime.errors import BackendError, ChecksumError, FormatError, NvbError, TruncatedError
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph
from inr_runtime.lower import TARGETS, Target, lower, target_named
from inr_runtime.segment import Segment
from inr_runtime.tensors import FloatArray


class OpenFile:
    """An open .nvb file with an engine for one of its segments at a time. A context manager.

    Subclasses give what is decoded, and `_check`, which compares it with what the segment says of itself.
    """

    def __init__(self, reader: NvbReader, backend: str, target: Target, threads: int) -> None:
        self._reader, self._backend_name, self._target, self._threads = reader, backend, target, threads
        self._starts = [e.first_frame for e in reader.index]
        self._number = -1
        self._segment: Segment
        self._engine: Backend | None = None
        self._open_any()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine and the file; decoding is an error afterwards."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        self._reader.close()

    @property
    def reader(self) -> NvbReader:
        """The file underneath: header, index, sizes."""
        return self._reader

    @property
    def backend(self) -> str:
        """What really runs, for people."""
        return self._require_engine().name

    @property
    def target(self) -> Target:
        """Engine and precision that the graph was lowered for."""
        return self._target

    @property
    def _graph(self) -> CanonicalGraph:
        """The graph of the open segment."""
        return self._reader.header.graphs[self._segment.graph]

    def _check(self, number: int) -> None:
        """Raise `BackendError` where the open segment, `number`, decodes to something else than it says."""
        raise NotImplementedError

    def _run(self, inputs: dict[str, FloatArray]) -> NDArray[np.generic]:
        """One run of the engine, without the batch."""
        with self._reader.naming():
            result: NDArray[np.generic] = self._require_engine().run(inputs)[0]
            return result

    def _require_engine(self) -> Backend:
        if self._engine is None:
            raise BackendError("this video is closed")
        return self._engine

    def _open_any(self) -> None:
        """Open the first segment that is whole: a damaged one costs its own frames and not the video."""
        damage: NvbError | None = None
        for number in range(len(self._starts)):
            try:
                return self._open_segment(number)
            except (ChecksumError, FormatError, TruncatedError) as error:
                damage = damage or error
        if damage is not None:
            raise damage

    def _open_segment(self, number: int) -> None:
        if number == self._number:
            return
        segment = self._reader.segment(number)
        header = self._reader.header
        with self._reader.naming(f"segment {number}"):
            graph = header.graphs[segment.graph]
            lowered = lower(graph, segment.weights, self._target, header.ranges.get(segment.graph))
            engine = open_backend(lowered, self._backend_name, self._threads)
        if self._engine is not None:
            self._engine.close()
        self._engine, self._segment, self._number = engine, segment, -1
        self._check(number)
        self._number = number


def choose_target(header: Header, name: str) -> Target:
    """The target called `name`; auto is int8 where the file was made for it, else fp32. Raises `UsageError`."""
    if name != "auto":
        return target_named(name)
    return TARGETS["cpu-int8" if header.ranges else "cpu-fp32"]
