"""ONNX Runtime on any CPU."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inr_runtime.backends import pip_line
from inr_runtime.builder import OUTPUT, Array
from inr_runtime.errors import BackendError, MissingExtraError, first_line
from inr_runtime.graph import make_model
from inr_runtime.lower import Lowered


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises `MissingExtraError` where it is not installed, `BackendError` where it is broken or too old; both name the
    pip line.
    """
    try:
        import onnxruntime

        is_new_enough = hasattr(onnxruntime.SessionOptions, "add_external_initializers")
    except (ImportError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise MissingExtraError(f"no inference engine is installed; run: {pip_line('cpu')}") from error
        # Where onnxruntime and onnxruntime-gpu lay in one folder, uninstalling one leaves a module without names.
        repair = f"pip uninstall onnxruntime onnxruntime-gpu && {pip_line('cpu')}"
        raise BackendError(f"onnxruntime cannot be loaded ({first_line(error)}); run: {repair}") from error
    if not is_new_enough:
        raise BackendError(f"onnxruntime {onnxruntime.__version__} is too old; run: {pip_line('cpu')} --upgrade")
    return onnxruntime


def open_engine(lowered: Lowered, threads: int = 0) -> OrtBackend:
    """As `OrtBackend`."""
    return OrtBackend(lowered, threads)


def probe() -> tuple[str, str]:
    """Version and device. Raises `MissingExtraError`."""
    return str(import_onnxruntime().__version__), "CPU"


class OrtBackend:
    """A lowered graph in an ONNX Runtime session on the CPU.

    threads: 0 = all cores. Raises `MissingExtraError`, or `BackendError` where the session refuses the graph or memory
    runs out.
    """

    def __init__(self, lowered: Lowered, threads: int = 0) -> None:
        ort = import_onnxruntime()
        ort.set_default_logger_severity(4)
        # The session reads these arrays in place: without this reference most pixels turn wrong, with no error.
        self._weights = as_values(ort, lowered.initializers)
        self._ort, self._model = ort, lowered.model.SerializeToString()
        self._options = _session_options(ort, lowered, threads)
        self._options.add_external_initializers(list(self._weights), [value for value, _ in self._weights.values()])
        self._session, self._is_optimized = self._open(), True
        self._name = f"onnxruntime {ort.__version__} {lowered.target.name}"

    def _open(self) -> Any:
        try:
            return self._ort.InferenceSession(self._model, self._options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BackendError(_explained("refused the graph", error)) from error

    @property
    def name(self) -> str:
        """Engine, version and target."""
        return self._name

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> Array:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        # Held until the run ends, in this order: another thread may close the engine meanwhile.
        session, weights = self._session, self._weights  # noqa: F841
        if session is None:
            raise BackendError("this engine is closed")
        try:
            return np.asarray(session.run([OUTPUT], inputs)[0])
        except Exception as error:
            # Without optimizations a graph needs more memory, not less.
            if is_out_of_memory(error) or not self._is_optimized:
                raise BackendError(_explained("failed on a frame", error)) from error
            return np.asarray(self._run_as_it_is(inputs, error))

    def _run_as_it_is(self, inputs: dict[str, NDArray[np.float32]], why: Exception) -> Any:
        """Without optimizations, from now on.

        Some graphs run only so: ONNX Runtime 1.31 moves a Transpose behind a linear Resize, which then no kernel can
        compute.
        """
        self._options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session, self._is_optimized = self._open(), False
        try:
            frames = self._session.run([OUTPUT], inputs)[0]
        except Exception as error:
            raise BackendError(_explained("failed on a frame", error)) from error
        text = "ONNX Runtime cannot run the graph as it optimized it (%s); it now runs without, which is slower"
        logging.getLogger("inr").warning(text, first_line(why))
        return frames

    def close(self) -> None:
        """Free the session, then the weights it read; whoever runs it again meets an error, not freed memory."""
        self._session = self._options = None
        self._weights = {}


def as_values(ort: Any, arrays: Mapping[str, Array]) -> dict[str, tuple[Any, Array]]:
    """Arrays with the values that sessions read in place; both must outlive the session."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return {name: (ort.OrtValue.ortvalue_from_numpy(array), array) for name, array in contiguous.items()}


def thread_count(threads: int) -> int:
    """0 as the cores that this process may use, where the system tells; else the engine's own default, 0."""
    return threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads


def _session_options(ort: Any, lowered: Lowered, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised too
    options.enable_mem_pattern = False  # as fast without, and with it the first run's memory is held beside the plan's
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if lowered.target.precision == "int8" and int8_saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@functools.lru_cache(maxsize=1)
def int8_saturates() -> bool:
    """Whether this CPU's int8 kernels overflow their 16-bit partial sums (x86-64 with neither VNNI nor AMX).

    Found by running a convolution whose pairs of products exceed 16 bits; such CPUs are then set to exact arithmetic,
    which is slower (about the speed of float32).
    """
    ort = import_onnxruntime()
    channels = 64
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"]
    node = helper.make_node("QLinearConv", names, ["y"])
    constants = {
        "sx": np.float32(1),
        "zx": np.uint8(0),
        "w": np.full((8, channels, 1, 1), 127, np.int8),
        "sw": np.float32(1),
        "zw": np.int8(0),
        "sy": np.float32(channels * 127),
        "zy": np.uint8(0),
    }
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, channels, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 8, 8, 8])
    model = make_model(helper.make_graph([node], "probe", [x], [y], tensors))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": np.full((1, channels, 8, 8), 255, np.uint8)})[0]
    return bool((result != 255).any())


def is_out_of_memory(error: Exception) -> bool:
    """Whether an engine failed for want of memory, as far as its error tells."""
    signs = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in signs)


def _explained(what: str, error: Exception) -> str:
    if is_out_of_memory(error):
        return "no memory is left for this video; close other programs, or raise the memory limit that this one has"
    return f"ONNX Runtime {what}: {first_line(error)}"
