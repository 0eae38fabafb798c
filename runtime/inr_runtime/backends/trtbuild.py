"""Building a TensorRT engine from a lowered graph, with progress; the same calls on 10.3, 10.13 and 11."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from inr_runtime.backends import report_build
from inr_runtime.errors import BackendError
from inr_runtime.lower import Lowered


class Log(Protocol):
    """What TensorRT says, as far as it matters."""

    def words(self, otherwise: str = "it says nothing") -> str:
        """The last error, of one line, or `otherwise`."""
        ...


@dataclass(frozen=True)
class Built:
    """An engine, and how long kernels took on this GPU, which makes the next build faster."""

    plan: bytes
    timing: bytes


def make_log(trt: Any) -> Log:
    """A logger that keeps errors and prints nothing: frames may be on stdout."""

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._errors.append(msg.strip().replace("\n", " ")[:300])

        def words(self, otherwise: str = "it says nothing") -> str:
            return self._errors[-1] if self._errors else otherwise

    log: Log = Listener()
    return log


def build(trt: Any, log: Log, lowered: Lowered, refits: bool, timing: bytes, room: int) -> Built:
    """Build an engine.

    refits: weights can be replaced later. timing: as a former build gave it, or nothing. room: bytes of the GPU's
    memory that kernels may use beside activations. Raises `BackendError`, also where a listener of
    `inr_runtime.backends.building` raised, and what it raised.
    """
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(lowered.embedded().SerializeToString()):
        found = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BackendError(f"TensorRT {trt.__version__} cannot read the graph: {found or log.words()}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, room)
    # TF32 has no more digits than float16: what was left in float32 would gain nothing.
    config.clear_flag(trt.BuilderFlag.TF32)
    if refits:
        config.set_flag(trt.BuilderFlag.REFIT)
    _set_timing(config, timing)
    monitor = _make_monitor(trt)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.raised is not None:
        raise monitor.raised
    if plan is None:
        raise BackendError(_failed(log.words()))
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _set_timing(config: Any, timing: bytes) -> None:
    """Timings of another version or GPU are not taken; then it starts with none."""
    cache = config.create_timing_cache(timing)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _make_monitor(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self.raised: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._steps.get(phase_name, 0))

        def _tell(self, phase: str, done: int) -> None:
            # An exception may not pass through TensorRT's own frames: Ctrl-C asks it to stop, and is raised after.
            try:
                report_build(phase, done, self._steps.get(phase, 0))
            except BaseException as error:
                self.raised = error

    return Monitor()


def _failed(words: str) -> str:
    if "memory" in words.lower():
        return f"the GPU has no memory left to build an engine ({words}); close other programs or use --backend cpu"
    return f"TensorRT built no engine: {words}"
