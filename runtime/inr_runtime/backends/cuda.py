"""ONNX Runtime's CUDA provider: float16, fixed buffers on the GPU, the whole frame as one CUDA graph."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from inr_runtime.backends import pip_line
from inr_runtime.backends.driver import Driver, open_driver
from inr_runtime.backends.ort import as_values, import_onnxruntime, is_out_of_memory
from inr_runtime.builder import OUTPUT, Array
from inr_runtime.errors import BackendError, MissingExtraError, first_line
from inr_runtime.lower import Lowered

_NAME = "CUDAExecutionProvider"
_OPTIONS = {
    "device_id": "0",
    "enable_cuda_graph": "1",
    # TF32 has no more digits than float16: what was left in float32 would gain nothing.
    "use_tf32": "0",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "arena_extend_strategy": "kSameAsRequested",
}


def open_engine(lowered: Lowered, threads: int = 0) -> CudaBackend:
    """As `CudaBackend`; threads are the CPU's and mean nothing here."""
    return CudaBackend(lowered)


def probe() -> tuple[str, str]:
    """Version of ONNX Runtime and name of the GPU. Raises `MissingExtraError` or `BackendError`."""
    return str(_module().__version__), _driver().device_name


class CudaBackend:
    """A lowered graph on the first NVIDIA GPU, the whole of it: nothing may fall back to the CPU in silence.

    Raises `MissingExtraError` where ONNX Runtime has no CUDA, `BackendError` where the driver is missing or too old,
    memory runs out, or the graph is refused.
    """

    def __init__(self, lowered: Lowered) -> None:
        ort, driver = _module(), _driver()
        self._weights = as_values(ort, lowered.initializers)
        self._options = _options(ort, self._weights)
        try:
            model = lowered.model.SerializeToString()
            self._session = ort.InferenceSession(model, self._options, providers=[(_NAME, _OPTIONS)])
            # A provider that cannot be loaded is replaced by the CPU with no more than a log line.
            if _NAME not in self._session.get_providers():
                raise BackendError(f"ONNX Runtime could not start CUDA: {_versions(ort, driver)}")
            self._bind(ort, lowered)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"{_explained(ort, driver, error)}") from error
        self._name = f"onnxruntime {ort.__version__} {lowered.target.name} on {driver.device_name}"

    def _bind(self, ort: Any, lowered: Lowered) -> None:
        """Buffers of fixed addresses on the GPU, which a CUDA graph needs."""
        graph, self._inputs = lowered.model.graph, {}
        self._binding = self._session.io_binding()
        for port in graph.input:
            zeros = np.zeros([d.dim_value for d in port.type.tensor_type.shape.dim], np.float32)
            value = ort.OrtValue.ortvalue_from_numpy(zeros, "cuda", 0)
            self._binding.bind_ortvalue_input(port.name, value)
            self._inputs[port.name] = value
        result = graph.output[0].type.tensor_type
        kind = np.uint8 if result.elem_type == TensorProto.UINT8 else np.float32
        shape = [d.dim_value for d in result.shape.dim]
        self._output = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cuda", 0)
        self._binding.bind_ortvalue_output(OUTPUT, self._output)

    @property
    def name(self) -> str:
        """Engine, version, target and GPU."""
        return self._name

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> Array:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        try:
            for name, value in self._inputs.items():
                value.update_inplace(np.ascontiguousarray(inputs[name], np.float32))
            self._session.run_with_iobinding(self._binding)
            return np.asarray(self._output.numpy())
        except Exception as error:
            raise BackendError(f"CUDA failed on a frame: {first_line(error)}") from error

    def close(self) -> None:
        """Free the session, its buffers, then the weights."""
        del self._binding, self._output, self._session, self._options
        self._inputs.clear()
        self._weights.clear()


def _options(ort: Any, weights: Mapping[str, tuple[Any, Array]]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised too
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_external_initializers(list(weights), [value for value, _ in weights.values()])
    return options


@functools.lru_cache(maxsize=1)
def _module() -> Any:
    ort = import_onnxruntime()
    if _NAME not in ort.get_available_providers():
        raise MissingExtraError(
            f"onnxruntime {ort.__version__} has no CUDA; run: pip uninstall onnxruntime && {pip_line('cuda')}"
        )
    ort.set_default_logger_severity(4)
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(io.StringIO()):  # it prints what it does not find, and frames may be on stdout
            ort.preload_dlls()
    return ort


def _driver() -> Driver:
    return open_driver()


def _explained(ort: Any, driver: Driver, error: Exception) -> str:
    text = first_line(error)
    if is_out_of_memory(error):
        return f"the GPU has no memory left for this video ({text}); close other programs or use --backend cpu"
    return f"ONNX Runtime refused the graph on CUDA ({_versions(ort, driver)}): {text}"


def _versions(ort: Any, driver: Driver) -> str:
    return f"onnxruntime {ort.__version__}, driver for CUDA {driver.version}, {driver.device_name}"
