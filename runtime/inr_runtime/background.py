"""Work that goes on while the caller does something else; engines and codecs free the interpreter meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """One call in a thread of its own; `result` waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error

    @property
    def done(self) -> bool:
        """Whether the call has ended, well or not."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """What the call returned; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]


def ahead(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same items, made by a thread that is at most `depth` of them ahead; raises what making them raised.

    When the generator is closed, at the latest, the thread ends: it is waited for, so that what it used can be closed.
    """
    made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()
    room, stopped, ended = threading.Semaphore(depth), threading.Event(), threading.Event()

    def make() -> None:
        error: BaseException | None = None
        try:
            source = iter(items)
            # Room is asked for before an item is made: memory holds `depth` that wait and one that is used.
            while room.acquire() and not stopped.is_set():
                made.put((next(source), None))
        except StopIteration:
            pass
        except BaseException as caught:
            error = caught
        made.put((None, error or StopIteration()))
        ended.set()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
            room.release()
    finally:
        stopped.set()
        room.release()
        _wait_for(ended)
        thread.join()


def _wait_for(ended: threading.Event) -> None:
    """Until a thread says that it has ended. Ctrl-C is heard only then: what the thread uses would be freed too early.

    A `Thread.join` that was interrupted is no help: Python up to 3.12 then takes the thread for ended.
    """
    heard: KeyboardInterrupt | None = None
    while not ended.is_set():
        try:
            ended.wait()
        except KeyboardInterrupt as interrupt:
            heard = interrupt
    if heard is not None:
        raise heard
