"""ONNX Runtime with providers that this machine lacks: calls go to the real one, on the CPU, after strict checks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import onnxruntime as real

CUDA, OPENVINO = "CUDAExecutionProvider", "OpenVINOExecutionProvider"
CUDA_OPTIONS = {"device_id", "enable_cuda_graph", "use_tf32", "cudnn_conv_algo_search", "arena_extend_strategy"}


class Options(real.SessionOptions):
    """Keeps what the CPU would refuse: that it may not stand in, and devices of a plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}
        self.devices: list[tuple[Any, dict[str, str]]] = []

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value
        if key != "session.disable_cpu_ep_fallback":
            super().add_session_config_entry(key, value)

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        assert all(isinstance(v, str) for pair in options.items() for v in pair)
        self.devices += [(device, options) for device in devices]


class OrtValue(real.OrtValue):
    """`onnxruntime.OrtValue`, with the GPU's memory on the host; `numpy` copies from there, as from a GPU."""

    @classmethod
    def ortvalue_from_numpy(cls, array: Any, device_type: str = "cpu", device_id: int = 0, *rest: Any) -> Any:
        assert device_type in ("cpu", "cuda")
        return super().ortvalue_from_numpy(array, "cpu", device_id, *rest)

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Any, kind: Any, device_type: str = "cpu", *rest: Any) -> Any:
        assert device_type in ("cpu", "cuda")
        return super().ortvalue_from_shape_and_type(shape, kind, "cpu", *rest)

    def numpy(self) -> Any:
        return super().numpy().copy()


class FakeOrt:
    """An "installation" with a CUDA provider, and with a place for plugins.

    fault: None, or `memory`, `cpu` (the CPU stands in), `plugin` (its library is not loaded), `run`.
    sessions: the options of all that were opened.
    """

    def __init__(self) -> None:
        self.__version__, self.fault = real.__version__, ""
        self.SessionOptions, self.OrtValue = Options, OrtValue
        self.sessions: list[Options] = []
        self.registered: list[str] = []
        self.capabilities = "BF16 FP32 INT8"

    def set_default_logger_severity(self, level: int) -> None:
        assert 0 <= level <= 4

    def get_available_providers(self) -> list[str]:
        return [CUDA, "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        print("Failed to load libcudnn.so.9")

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.fault == "plugin":
            raise RuntimeError("libopenvino.so.2641: cannot open shared object file\nmore")
        assert name not in self.registered, "registered twice"
        self.registered.append(name)

    def get_ep_devices(self) -> list[Any]:
        facts = {"version": "1.8.1+95d5", "OPTIMIZATION_CAPABILITIES": self.capabilities, "ov_device": "CPU"}
        cpu = SimpleNamespace(ep_name="CPUExecutionProvider", ep_metadata={})
        auto = SimpleNamespace(ep_name=f"{OPENVINO}.AUTO", ep_metadata={**facts, "ov_meta_device": "AUTO"})
        return [cpu, auto, SimpleNamespace(ep_name=OPENVINO, ep_metadata={**facts, "FULL_DEVICE_NAME": "a CPU"})]

    def InferenceSession(self, model: bytes, options: Options, providers: Any = None) -> Any:
        assert options.entries["session.disable_cpu_ep_fallback"] == "1"
        if providers is None:
            ((device, given),) = options.devices
            assert device.ep_name == OPENVINO
            assert set(json.loads(given["load_config"])["CPU"]) <= {"INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"}
        else:
            ((name, given),) = providers
            assert name == CUDA
            assert set(given) <= CUDA_OPTIONS
            assert all(isinstance(value, str) for value in given.values())
        if self.fault == "memory":
            raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 99\nmore")
        self.sessions.append(options)
        return _Session(self, model, options, OPENVINO if providers is None else CUDA)


class FakeCpuOrt:
    """ONNX Runtime with faults of its CPU provider; all else is the real one.

    fault: None, or `memory` and `run` (no frame is computed), `optimized` (none by an optimized graph). opened: the
    number of sessions.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault, self.opened = fault, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def InferenceSession(self, model: bytes, options: Any, providers: Any) -> Any:
        self.opened += 1
        return _CpuSession(self, model, options, providers)


class _CpuSession(real.InferenceSession):
    def __init__(self, ort: FakeCpuOrt, model: bytes, options: Any, providers: Any) -> None:
        super().__init__(model, options, providers=providers)
        self._ort, self._level = ort, options.graph_optimization_level

    def run(self, names: Any, inputs: Any, options: Any = None) -> Any:
        if self._ort.fault == "memory":
            raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 99\nmore")
        if self._ort.fault == "run" or (self._ort.fault == "optimized" and self._level.name != "ORT_DISABLE_ALL"):
            raise RuntimeError("Could not find an implementation for Resize(19)\nmore")
        return super().run(names, inputs, options)


class _Session(real.InferenceSession):
    def __init__(self, ort: FakeOrt, model: bytes, options: Options, provider: str) -> None:
        self._ort, self._provider = ort, provider
        super().__init__(model, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"] if self._ort.fault == "cpu" else [self._provider, "CPUExecutionProvider"]

    def run(self, names: Any, inputs: Any, options: Any = None) -> Any:
        if self._ort.fault == "run":
            raise RuntimeError("CUDA failure 700: an illegal memory access\nmore")
        return super().run(names, inputs, options)

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        if self._ort.fault == "run":
            raise RuntimeError("CUDA failure 700: an illegal memory access\nmore")
        super().run_with_iobinding(binding, options)
