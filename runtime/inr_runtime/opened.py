"""What all open .nvb files have in common: the file, and the engine of the segment that is being played."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inr_runtime.backends import Backend, open_backend
from inr_runtime.backends.choice import choose_targets
from inr_runtime.background import Background
from inr_runtime.errors import (
    BackendError,
    ChecksumError,
    FormatError,
    InputError,
    MissingExtraError,
    NvbError,
    TruncatedError,
)
from inr_runtime.format import NvbReader
from inr_runtime.graph import CanonicalGraph
from inr_runtime.lower import Lowered, Target, lower
from inr_runtime.segment import Segment
from inr_runtime.tensors import FloatArray


@dataclass(frozen=True)
class _Loaded:
    """A segment, its graph with its weights for a target, and an engine: None where the one that plays takes them."""

    segment: Segment
    lowered: Lowered
    engine: Backend | None


@runtime_checkable
class _Refitting(Protocol):
    """An engine that can take another segment's weights."""

    def load(self, lowered: Lowered) -> bool:
        """Take them; False where this needs another engine."""
        ...


class OpenFile:
    """An open .nvb file with an engine for one of its segments at a time. A context manager.

    Of several engines the next is taken where one cannot be opened, draws a wrong picture or fails on a frame; where
    the user named one, there is no next, and its error is raised. `failed` tells of it, and once the file was open a
    logged warning too. Subclasses give what is decoded, and `_check`, which compares it with what the segment says of
    itself.
    """

    def __init__(self, reader: NvbReader, backend: str, target: str, threads: int) -> None:
        self._reader, self._backend_name, self._threads = reader, backend, threads
        self._targets, self._missing = choose_targets(reader.header, backend, target)
        self._failed: dict[str, str] = {}
        self._starts = [e.first_frame for e in reader.index]
        self._number = -1
        self._segment: Segment
        self._engine: Backend | None = None
        self._coming: tuple[int, Background[_Loaded]] | None = None
        self._is_open = False
        try:
            self._open_any()
        except BaseException:
            self._close_engine()
            raise
        self._is_open = True

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the engine and the file; decoding is an error afterwards."""
        try:
            self._take_coming(-1)
        finally:
            self._close_engine()
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
        return self._targets[0]

    @property
    def missing(self) -> dict[str, str]:
        """Better engines that are not there, with the reason."""
        return dict(self._missing)

    @property
    def failed(self) -> dict[str, str]:
        """Better engines that are there and did not play this file, with the reason."""
        return dict(self._failed)

    def prepare(self) -> None:
        """Open every graph of the file once, so that engines which are built and kept are there when it is played."""
        seen = set()
        for number in range(len(self._starts)):
            graph = self._reader.segment(number).graph
            if graph not in seen:
                seen.add(graph)
                self._open_segment(number)

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
            while True:
                try:
                    result: NDArray[np.generic] = self._require_engine().run(inputs)[0]
                    return result
                except BackendError as error:
                    # While a segment is being opened, `_open_segment` is the one to go on.
                    if self._number < 0 or len(self._targets) == 1:
                        raise
                    number = self._number
                    self._give_up(error)
                    self._open_segment(number)

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
        loaded = self._take_coming(number)
        segment = loaded.segment if loaded else self._reader.segment(number)
        while True:
            try:
                return self._install(loaded or self._load(number, segment, self._targets[0], self._refits), number)
            except (BackendError, MissingExtraError) as error:
                if len(self._targets) == 1:
                    raise
                loaded = None
                self._give_up(error)

    @property
    def _refits(self) -> bool:
        """Whether the engine that is open can take other weights."""
        return isinstance(self._engine, _Refitting)

    def _load(self, number: int, segment: Segment, target: Target, refits: bool) -> _Loaded:
        """A segment, and an engine of its own unless one that `refits` will take it."""
        with self._reader.naming(f"segment {number}"):
            lowered = self._lowered(segment, target)
            engine = None if refits else self._open_backend(lowered)
            return _Loaded(segment, lowered, engine)

    def _lowered(self, segment: Segment, target: Target, batch: int = 1) -> Lowered:
        """The graph of a segment with its weights; batch: frames per run."""
        header = self._reader.header
        graph, ranges = header.graphs[segment.graph], header.ranges.get(segment.graph)
        return lower(graph, segment.weights, target, ranges, batch)

    def _open_backend(self, lowered: Lowered) -> Backend:
        return open_backend(lowered, self._backend_name, self._threads)

    def _install(self, loaded: _Loaded, number: int) -> None:
        self._number = -1
        with self._reader.naming(f"segment {number}"):
            engine = loaded.engine or self._refitted(loaded.lowered) or self._open_backend(loaded.lowered)
        if self._engine is not None and self._engine is not engine:
            self._engine.close()
        self._engine, self._segment = engine, loaded.segment
        self._check(number)
        self._number = number

    def _refitted(self, lowered: Lowered) -> Backend | None:
        """The engine that is open, with other weights; None where it cannot take them."""
        engine = self._engine
        return engine if isinstance(engine, _Refitting) and engine.load(lowered) else None

    def _prepare_next(self, stop: int) -> None:
        """Begin to load the segment behind the open one where it begins before frame `stop`.

        What an engine that is playing will take is read and decoded, and taken when its time comes.
        """
        following, target, refits = self._number + 1, self._targets[0], self._refits
        if self._coming is None and 0 < following < len(self._starts) and self._starts[following] < stop:
            load = lambda: self._load(following, self._reader.segment(following), target, refits)  # noqa: E731
            self._coming = following, Background(load)

    def _take_coming(self, number: int) -> _Loaded | None:
        """What was loaded in the background where it is segment `number`; what went wrong there is met again."""
        if self._coming is None:
            return None
        (ahead, work), self._coming = self._coming, None
        try:
            loaded = work.result()
        except (InputError, BackendError, MissingExtraError):
            return None
        if ahead == number and loaded.lowered.target == self._targets[0]:
            return loaded
        if loaded.engine is not None:
            loaded.engine.close()
        return None

    def _give_up(self, error: Exception) -> None:
        """Leave an engine that failed for the next one."""
        left = self._targets.pop(0)
        self._failed[left.backend] = str(error)
        if self._is_open:
            logging.getLogger("inr").warning("leaving %s for %s: %s", left.name, self._targets[0].name, error)
        self._number = -1
        self._close_engine()

    def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
