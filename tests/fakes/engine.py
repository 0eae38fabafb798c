"""What a fake TensorRT engine is: a graph that ONNX Runtime computes, between addresses on a fake GPU."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper


def typed(*types: Any) -> Callable[..., Any]:
    """A method whose arguments must be of these types, as pybind11 insists."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *given: Any) -> Any:
            fits = len(given) <= len(types) and all(isinstance(g, t) for g, t in zip(given, types, strict=False))
            if not fits or any(isinstance(g, bool) and t is int for g, t in zip(given, types, strict=False)):
                raise TypeError(f"{method.__name__}(): incompatible function arguments: {[type(g) for g in given]}")
            return method(self, *given)

        return call

    return wrap


class ILogger:
    Severity = Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def __init__(self) -> None:
        self.made = True


class IProgressMonitor:
    def __init__(self) -> None:
        self.made = True


BUFFER = (bytes, bytearray, memoryview)
DataType = Enum("DataType", "FLOAT HALF INT8 INT32 INT64 UINT8")
MemoryPoolType = Enum("MemoryPoolType", "WORKSPACE TACTIC_DRAM")
_KINDS = {1: DataType.FLOAT, 2: DataType.UINT8, 3: DataType.INT8, 7: DataType.INT64, 10: DataType.HALF}
_NUMPY = {np.float32: DataType.FLOAT, np.float16: DataType.HALF, np.int8: DataType.INT8, np.int64: DataType.INT64}


class Weights:
    def __init__(self, a: Any) -> None:
        if not isinstance(a, np.ndarray):
            raise TypeError("__init__(): incompatible constructor arguments")
        if not a.flags.c_contiguous:
            raise ValueError(
                "Could not convert non-contiguous NumPy array to Weights. Please use numpy.ascontiguousarray()"
            )
        self.array = a


class Engine:
    def __init__(self, module: Any, model: onnx.ModelProto, refittable: bool) -> None:
        self.module, self.model, self.refittable = module, model, refittable
        self.ports = {p.name: p.type.tensor_type for p in (*model.graph.input, *model.graph.output)}

    @typed(str)
    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d.dim_value for d in self.ports[name].shape.dim)

    @typed(str)
    def get_tensor_dtype(self, name: str) -> DataType:
        return _KINDS[self.ports[name].elem_type]

    def create_execution_context(self) -> Context | None:
        return None if self.module.fault == "context" else Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._addresses = engine, dict[str, int]()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(engine.model.SerializeToString(), options)

    @typed(str, int)
    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in self._engine.ports and memory in self._engine.module.cuda.held

    @typed(int)
    def execute_async_v3(self, stream_handle: int) -> bool:
        held, streams = self._engine.module.cuda.held, self._engine.module.cuda.streams
        bound = set(self._addresses) == set(self._engine.ports)
        if stream_handle not in streams or self._engine.module.fault == "run" or not bound:
            return False
        shapes = {n: self._engine.get_tensor_shape(n) for n in self._engine.ports}
        inputs = {
            p.name: np.frombuffer(held[self._addresses[p.name]], np.float32).reshape(shapes[p.name])
            for p in self._engine.model.graph.input
        }
        (frame,) = self._session.run(None, inputs)
        if self._engine.module.fault == "wrong":
            frame = 255 - frame
        ctypes.memmove(self._addresses["frame"], np.ascontiguousarray(frame).ctypes.data, frame.nbytes)
        return True


class Refitter:
    """Weights and constants that a fusion joined must all be given again, as in the real one."""

    def __init__(self, module: Any, engine: Engine, logger: ILogger) -> None:
        module.started(logger)
        assert engine.refittable, "the engine was not built for refitting"
        self._module, self._engine, self._given = module, engine, dict[str, np.ndarray[Any, Any]]()

    def _tensors(self) -> dict[str, TensorProto]:
        return {t.name: t for t in self._engine.model.graph.initializer if t.data_type != TensorProto.INT64}

    def get_all_weights(self) -> list[str]:
        return [] if self._module.fault == "refit" else list(self._tensors())

    @typed(str, Weights)
    def set_named_weights(self, name: str, weights: Weights) -> bool:
        tensor = self._tensors()[name]
        fits = _NUMPY[weights.array.dtype.type] == _KINDS[tensor.data_type]
        if fits and weights.array.size == numpy_helper.to_array(tensor).size:
            self._given[name] = weights.array
            return True
        return False

    def get_missing_weights(self) -> list[str]:
        missing = ["n1 + n2"] if self._module.fault == "missing" else []
        return missing + [name for name in self._tensors() if self._given and name not in self._given]

    def refit_cuda_engine(self) -> bool:
        for name, tensor in self._tensors().items():
            shape = list(tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(self._given[name].reshape(shape), name))
        self._module.refits += 1
        return True
