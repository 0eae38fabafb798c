"""OpenVINO on x86-64 CPUs, as a plugin of ONNX Runtime (package onnxruntime-ep-openvino)."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inr_runtime.backends import pip_line
from inr_runtime.backends.ort import as_values, import_onnxruntime, int8_saturates, thread_count
from inr_runtime.builder import OUTPUT, Array
from inr_runtime.errors import BackendError, MissingExtraError, first_line
from inr_runtime.lower import Lowered

_NAME = "OpenVINOExecutionProvider"


def open_engine(lowered: Lowered, threads: int = 0) -> OpenVinoBackend:
    """As `OpenVinoBackend`."""
    return OpenVinoBackend(lowered, threads)


def probe() -> tuple[str, str]:
    """Version of the plugin and name of the CPU. Raises `MissingExtraError` or `BackendError`."""
    device = _device()
    return device.ep_metadata.get("version", "?").split("+")[0], device.ep_metadata.get("FULL_DEVICE_NAME", "CPU")


class OpenVinoBackend:
    """A lowered graph in OpenVINO, the whole of it: nothing may fall back to another engine in silence.

    threads: 0 = all cores. Raises `MissingExtraError`, or `BackendError` where the plugin cannot be loaded or refuses
    the graph, or the CPU lacks what the target needs.
    """

    def __init__(self, lowered: Lowered, threads: int = 0) -> None:
        ort, device = import_onnxruntime(), _device()
        precision = lowered.target.precision
        if precision == "bf16" and "BF16" not in device.ep_metadata.get("OPTIMIZATION_CAPABILITIES", "BF16").split():
            raise BackendError("this CPU has no bfloat16 arithmetic; use --target openvino-int8 or openvino-fp32")
        if precision == "int8" and int8_saturates():
            raise BackendError(
                "OpenVINO's int8 sums overflow on this CPU (no VNNI); use --target openvino-fp32 or cpu-int8"
            )
        # Left to itself OpenVINO takes bfloat16 where the CPU has it, whatever the graph says.
        config = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        if thread_count(threads):
            config["INFERENCE_NUM_THREADS"] = str(thread_count(threads))
        self._weights = as_values(ort, lowered.initializers)
        self._options = ort.SessionOptions()
        self._options.log_severity_level = 4  # what fails is raised too
        self._options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._options.add_provider_for_devices([device], {"load_config": json.dumps({"CPU": config})})
        self._options.add_external_initializers(list(self._weights), [value for value, _ in self._weights.values()])
        try:
            self._session = ort.InferenceSession(lowered.model.SerializeToString(), self._options)
        except Exception as error:
            raise BackendError(f"OpenVINO refused the graph: {first_line(error)}") from error
        if self._session.get_providers()[0] != _NAME:
            raise BackendError(f"the graph runs on {self._session.get_providers()[0]}, not on OpenVINO")
        self._name = f"openvino {probe()[0]} {lowered.target.name}"

    @property
    def name(self) -> str:
        """Plugin, version and target."""
        return self._name

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> Array:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        try:
            return np.asarray(self._session.run([OUTPUT], inputs)[0])
        except Exception as error:
            raise BackendError(f"OpenVINO failed on a frame: {first_line(error)}") from error

    def close(self) -> None:
        """Free the session, then the weights it read."""
        del self._session, self._options
        self._weights.clear()


@functools.lru_cache(maxsize=1)
def _device() -> Any:
    """The CPU as a device of the plugin, which a process can load once."""
    ort = import_onnxruntime()
    try:
        import onnxruntime_ep_openvino as plugin
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"OpenVINO is not installed; run: {pip_line('openvino')}") from error
    except ImportError as error:
        raise BackendError(f"the OpenVINO plugin cannot be loaded: {first_line(error)}") from error
    if not hasattr(ort, "register_execution_provider_library"):
        raise BackendError(f"onnxruntime {ort.__version__} takes no plugins; run: {pip_line('openvino')} --upgrade")
    ort.set_default_logger_severity(4)
    try:
        ort.register_execution_provider_library("inr-openvino", plugin.get_library_path())
    except Exception as error:
        raise BackendError(f"the OpenVINO plugin cannot be loaded: {first_line(error)}") from error
    for device in ort.get_ep_devices():
        if device.ep_name == _NAME and device.ep_metadata.get("ov_device") == "CPU":
            return device
    raise BackendError("the OpenVINO plugin finds no CPU that it can use")
