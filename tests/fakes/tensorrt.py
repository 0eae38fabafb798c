"""The `tensorrt` module, as its bindings 10.3, 10.13 and 11 take their arguments; engines compute by ONNX Runtime.

Signatures are those that the published bindings 10.3.0, 10.13.3.9, 10.16.1.11 and 11.4.0.106 print, and every call is
checked by type. Those bindings have all names that `inr_runtime.backends.trt` uses; how engines behave is known from
NVIDIA's documentation only.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
from enum import Enum
from types import ModuleType
from typing import Any

import onnx

from fakes.engine import BUFFER, DataType, Engine, ILogger, IProgressMonitor, MemoryPoolType, Refitter, Weights, typed
from fakes.libcuda import FakeCuda


class _Flag(Enum):
    def __int__(self) -> int:
        return self.value


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> IHostMemory:
        return IHostMemory(self.data)


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class Config:
    def __init__(self, flags: type[Enum], stamp: bytes) -> None:
        self._flags, self._stamp = flags, stamp
        self.set: set[Enum] = {flags["TF32"]}
        self.room, self.timing = 0, None
        self._monitor: IProgressMonitor | None = None

    @property
    def progress_monitor(self) -> IProgressMonitor | None:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: IProgressMonitor) -> None:
        if not (isinstance(monitor, IProgressMonitor) and hasattr(monitor, "made")):
            raise TypeError("progress_monitor: incompatible function arguments")
        self._monitor = monitor

    @typed(Enum)
    def set_flag(self, flag: Enum) -> None:
        self.set.add(self._flags(flag))

    @typed(Enum)
    def clear_flag(self, flag: Enum) -> None:
        self.set.discard(self._flags(flag))

    @typed(MemoryPoolType, int)
    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.room = pool_size

    @typed(BUFFER)
    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        return ITimingCache(bytes(serialized_timing_cache))

    @typed(ITimingCache, bool)
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        fits = not cache.data or cache.data.startswith(self._stamp)
        self.timing = cache if fits or ignore_mismatch else self.timing
        return fits

    def get_timing_cache(self) -> ITimingCache:
        return ITimingCache(self._stamp + b"timings")


class Network:
    def __init__(self, flags: int) -> None:
        self.flags, self.model = flags, b""


class FakeTensorRt(ModuleType):
    """One "installation": its version, its GPU, its faults.

    fault: None, or where it fails: `driver`, `parse`, `build`, `memory`, `context`, `refit`, `missing`, `wrong`.
    tag: what engines are bound to. builds, refits: how often each was done. configs: of all builds.
    """

    def __init__(self, version: str, cuda: FakeCuda) -> None:
        super().__init__("tensorrt")
        self.__version__ = self.tag = version
        self.cuda, self.fault, self.builds, self.refits = cuda, "", 0, 0
        self.configs: list[Config] = []
        weak = [] if version.startswith("11") else ["FP16", "INT8", "BF16"]
        self.BuilderFlag = Enum("BuilderFlag", ["TF32", "REFIT", "REFIT_IDENTICAL", "STRIP_PLAN", *weak])
        self.ILogger, self.IProgressMonitor, self.Weights, self.DataType = ILogger, IProgressMonitor, Weights, DataType
        self.MemoryPoolType = MemoryPoolType
        typing = {"STRONGLY_TYPED": 0} if version.startswith("11") else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
        self.NetworkDefinitionCreationFlag: Any = _Flag("NetworkDefinitionCreationFlag", typing)
        self.uint8, self.float32, self.float16 = DataType.UINT8, DataType.FLOAT, DataType.HALF
        for made in (Builder, OnnxParser, Runtime, Refitter):
            setattr(self, made.__name__, functools.partial(made, self))

    @property
    def stamp(self) -> bytes:
        return hashlib.sha256(self.tag.encode()).digest()[:8]

    def started(self, logger: Any) -> None:
        """As constructors do: they take a logger that was made properly, and give nothing without a driver."""
        if not (isinstance(logger, ILogger) and hasattr(logger, "made")):
            raise TypeError("__init__(): incompatible constructor arguments")
        if self.fault == "driver":
            logger.log(ILogger.ERROR, "CUDA initialization failure with error: 35\n")
            raise TypeError("pybind11::init(): factory function returned nullptr")


class Builder:
    def __init__(self, module: FakeTensorRt, logger: ILogger) -> None:
        module.started(logger)
        self._module, self._logger = module, logger

    @typed(int)
    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        config = Config(self._module.BuilderFlag, self._module.stamp)
        self._module.configs.append(config)
        return config

    @typed(Network, Config)
    def build_serialized_network(self, network: Network, config: Config) -> IHostMemory | None:
        flag = int(self._module.NetworkDefinitionCreationFlag["STRONGLY_TYPED"])
        assert network.flags == 1 << flag, "not strongly typed"
        self._module.builds += 1
        monitor: Any = config.progress_monitor
        if monitor:
            monitor.phase_start("Building Engine", None, 2)
            for step in range(2):
                if not monitor.step_complete("Building Engine", step):
                    return None
            monitor.phase_finish("Building Engine")
        if self._module.fault in ("build", "memory"):
            words = {"build": "Could not find any implementation for node", "memory": "CUDA out of memory\n"}
            self._logger.log(ILogger.ERROR, words[self._module.fault])
            return None
        refittable = self._module.BuilderFlag["REFIT"] in config.set
        return IHostMemory(pickle.dumps((self._module.stamp, refittable, network.model)))


class OnnxParser:
    def __init__(self, module: FakeTensorRt, network: Network, logger: ILogger) -> None:
        module.started(logger)
        self._module, self._network, self.num_errors = module, network, 0

    @typed(BUFFER, str)
    def parse(self, model: bytes, path: str | None = None) -> bool:
        self._network.model = bytes(model)
        onnx.checker.check_model(onnx.load_from_string(self._network.model), full_check=True)
        self.num_errors = int(self._module.fault == "parse")
        return not self.num_errors

    @typed(int)
    def get_error(self, index: int) -> ParserError:
        return ParserError("UNSUPPORTED_NODE: Conv")


class Runtime:
    def __init__(self, module: FakeTensorRt, logger: ILogger) -> None:
        module.started(logger)
        self._module, self._logger = module, logger

    @typed(BUFFER)
    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        stamp, refittable, model = pickle.loads(serialized_engine)
        if stamp != self._module.stamp:
            self._logger.log(ILogger.ERROR, "Version tag does not match")
            return None
        return Engine(self._module, onnx.load_from_string(model), refittable)
