"""Engines for machines without them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes.libcuda import FakeCuda
from fakes.ort import FakeOrt
from fakes.tensorrt import FakeTensorRt

import inr_runtime.lower
import inr_runtime.opened
from inr_runtime.backends import choice, cuda, driver, openvino, trt
from inr_runtime.errors import BackendError


def _forget() -> None:
    for remembered in (driver.open_driver, trt._module, cuda._module, openvino._device):
        remembered.cache_clear()


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with the CPU engine alone, whatever this one has, and an empty cache."""

    def no_driver() -> None:
        raise BackendError("no NVIDIA driver is installed")

    monkeypatch.setenv("INR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(driver, "load_library", no_driver)
    for module in ("tensorrt", "onnxruntime_ep_openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    _forget()
    yield
    _forget()


@pytest.fixture
def gpu(nothing: None, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with an NVIDIA GPU."""
    library = FakeCuda()
    monkeypatch.setattr(driver, "load_library", lambda: library)
    return library


@pytest.fixture
def jetson(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeTensorRt]:
    """A machine with a GPU, and with the TensorRT whose version is given."""

    def install(version: str = "10.13.3.9") -> FakeTensorRt:
        module = FakeTensorRt(version, gpu)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        _forget()
        return module

    return install


@pytest.fixture
def ort_cuda(gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    """A machine with a GPU and onnxruntime-gpu."""
    module = FakeOrt()
    monkeypatch.setattr(cuda, "import_onnxruntime", lambda: module)
    return module


@pytest.fixture
def ort_openvino(nothing: None, monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    """A machine with ONNX Runtime, the OpenVINO plugin and a CPU whose int8 sums are exact, whatever this one has."""
    for module_with_it in (choice, openvino):
        monkeypatch.setattr(module_with_it, "int8_saturates", lambda: False)
    module, plugin = FakeOrt(), ModuleType("onnxruntime_ep_openvino")
    plugin.get_library_path = lambda: "/plugin.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", plugin)
    monkeypatch.setattr(openvino, "import_onnxruntime", lambda: module)
    return module


@pytest.fixture
def lowered_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which thread each segment was made ready: `main`, or `other`."""
    seen: list[str] = []

    def lower(*arguments: Any) -> Any:
        seen.append("main" if threading.current_thread() is threading.main_thread() else "other")
        return inr_runtime.lower.lower(*arguments)

    monkeypatch.setattr(inr_runtime.opened, "lower", lower)
    return seen
