"""TensorRT by its own Python API: 10.3 (JetPack 6) to 11. Strongly typed, so the graph says what is float16.

One engine is built for a graph, which takes minutes, and kept; every segment's weights are put into it by refitting.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from inr_runtime.backends import pip_line
from inr_runtime.backends.driver import open_driver
from inr_runtime.backends.enginecache import EngineCache
from inr_runtime.backends.trtbuild import Log, build, make_log
from inr_runtime.builder import OUTPUT, Array
from inr_runtime.errors import BackendError, MissingExtraError, first_line
from inr_runtime.lower import Lowered

_OLDEST = (10, 3)


def open_engine(lowered: Lowered, threads: int = 0) -> TensorRtBackend:
    """As `TensorRtBackend`; threads are the CPU's and mean nothing here."""
    return TensorRtBackend(lowered)


def probe() -> tuple[str, str]:
    """Version of TensorRT and name of the GPU. Raises `MissingExtraError` or `BackendError`."""
    return str(_module().__version__), open_driver().device_name


class TensorRtBackend:
    """A lowered graph as a TensorRT engine on the first NVIDIA GPU.

    Raises `MissingExtraError` where TensorRT is not installed, `BackendError` where it is too old, does not fit the
    driver, memory runs out, or the graph is refused.
    """

    def __init__(self, lowered: Lowered) -> None:
        self._trt, self._driver = _module(), open_driver()
        self._driver.use()
        self._log: Log = make_log(self._trt)
        self._cache = EngineCache()
        self._freed: list[Any] = []
        self._context: Any = None
        self._engine: Any = None
        self._inputs: dict[str, NDArray[Any]] = {}
        self._addresses: dict[str, int] = {}
        try:
            self._runtime = self._made("its runtime", lambda: self._trt.Runtime(self._log))
            self._open(lowered)
            self._make_buffers(lowered)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Engine, version, target and GPU."""
        return f"tensorrt {self._trt.__version__} {self._target} on {self._driver.device_name}"

    def load(self, lowered: Lowered) -> bool:
        """Put the weights of another segment into this engine; False where it takes another engine."""
        if not self._refits or self._key != self._key_of(lowered):
            return False
        self._driver.use()
        self._context = None  # nothing may run while weights change
        done = self._refit(lowered)
        self._start()
        return done

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> Array:
        """Sampled inputs by name to frames, uint8 (batch, H, W, 3), or sound, float32 (batch, 1, W, channels)."""
        self._driver.use()
        for name, host in self._inputs.items():
            np.copyto(host, inputs[name])
            self._driver.upload(self._addresses[name], host, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise BackendError(f"TensorRT failed on a frame: {self._log.words()}")
        self._driver.download(self._result, self._addresses[OUTPUT], self._stream)
        self._driver.wait(self._stream)
        return np.array(self._result)  # the next frame is written over this one

    def close(self) -> None:
        """Free the engine and its buffers."""
        self._driver.use()
        # TensorRT wants them to go in this order.
        self._context = None
        self._engine = None
        self._runtime = None
        while self._freed:
            free, what = self._freed.pop()
            free(what)

    def _open(self, lowered: Lowered) -> None:
        """An engine with these weights: refitted or built, from the cache where it is there."""
        self._target, self._key = lowered.target.name, self._key_of(lowered)
        # int8 weights are folded into their quantizers, which engines do not promise to refit.
        self._refits = lowered.target.precision == "fp16"
        digest = _digest(lowered)
        if self._refits and self._fetch(self._key, lowered) != digest:
            self._refits = self._refit(lowered)
        if not self._refits:
            self._engine = None
            self._fetch(f"{self._key}-{digest.hex()[:16]}", lowered)
        self._start()

    def _fetch(self, key: str, lowered: Lowered) -> bytes:
        """Take the engine from the cache or build it; the digest of the weights that are in it."""
        held = self._cache.load(key)
        if held is not None:
            digest, plan = held
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is not None:
                return digest
            self._cache.drop(key, f"TensorRT does not take it ({self._log.words()})")
        timing = f"timing-{self._stamp()}"
        known = self._cache.load(timing)
        made = self._made(
            "an engine",
            lambda: build(self._trt, self._log, lowered, self._refits, known[1] if known else b"", self._room()),
        )
        self._cache.store(key, _digest(lowered), made.plan)
        self._cache.store(timing, bytes(32), made.timing)
        self._engine = self._runtime.deserialize_cuda_engine(made.plan)
        if self._engine is None:
            raise BackendError(f"TensorRT does not take the engine that it built: {self._log.words()}")
        return _digest(lowered)

    def _refit(self, lowered: Lowered) -> bool:
        """Put weights into the engine; False where it would keep some of the old ones."""
        refitter = self._trt.Refitter(self._engine, self._log)
        constants = {t.name: numpy_helper.to_array(t) for t in lowered.model.graph.initializer if not t.external_data}
        arrays = {k: np.ascontiguousarray(np.atleast_1d(v)) for k, v in {**constants, **lowered.initializers}.items()}
        wanted = refitter.get_all_weights()
        if not set(lowered.initializers) <= set(wanted):
            return False
        # Constants too: engines fold them into weights, and ask for both.
        for name in (n for n in wanted if n in arrays):
            if not refitter.set_named_weights(name, self._trt.Weights(arrays[name])):
                return False
        return not refitter.get_missing_weights() and bool(refitter.refit_cuda_engine())

    def _start(self) -> None:
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(f"the GPU has no memory left to run this video: {self._log.words()}")
        for name, address in self._addresses.items():
            self._bind(name, address)

    def _make_buffers(self, lowered: Lowered) -> None:
        """Pinned arrays here and memory there, for every input and for the frame."""
        driver = self._driver
        self._stream = driver.stream()
        self._freed.append((driver.end_stream, self._stream))
        for port in lowered.model.graph.input:
            shape = tuple(d.dim_value for d in port.type.tensor_type.shape.dim)
            self._inputs[port.name] = self._buffer(port.name, shape, np.float32)
        output = lowered.model.graph.output[0].type.tensor_type
        shape = tuple(d.dim_value for d in output.shape.dim)
        kind = np.uint8 if output.elem_type == TensorProto.UINT8 else np.float32
        if self._engine.get_tensor_dtype(OUTPUT) != (self._trt.uint8 if kind is np.uint8 else self._trt.float32):
            raise BackendError("TensorRT gives frames in another type than the graph says")
        self._result = self._buffer(OUTPUT, shape, kind)

    def _buffer(self, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        if tuple(self._engine.get_tensor_shape(name)) != shape:
            raise BackendError(f"TensorRT gives {name} another shape than the graph says")
        host = self._driver.pinned(shape, kind)
        self._freed.append((self._driver.free_pinned, host))
        address = self._driver.allocate(host.nbytes)
        self._freed.append((self._driver.free, address))
        self._addresses[name] = address
        self._bind(name, address)
        return host

    def _bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise BackendError(f"TensorRT refused a buffer: {self._log.words()}")

    def _made(self, what: str, make: Any) -> Any:
        try:
            return make()
        except BackendError:
            raise
        except Exception as error:  # a constructor that gets nothing from the library raises TypeError
            raise BackendError(
                f"TensorRT {self._trt.__version__} could not make {what} with the driver for CUDA "
                f"{self._driver.version} on {self._driver.device_name}: {self._log.words(first_line(error))}"
            ) from error

    def _room(self) -> int:
        """Bytes that building may take: half of what is free, since on a Jetson the system lives there too."""
        return self._driver.free_memory() // 2

    def _stamp(self) -> str:
        """What an engine is bound to beside its graph: TensorRT's version, the GPU, the driver."""
        driver = self._driver
        facts = (self._trt.__version__, driver.device_name, driver.capability, driver.version)
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]

    def _key_of(self, lowered: Lowered) -> str:
        """Of the graph with the layout of its weights, without their values."""
        model = hashlib.sha256(lowered.model.SerializeToString(deterministic=True)).hexdigest()[:32]
        return f"{lowered.target.name}-{model}-{self._stamp()}"


def _digest(lowered: Lowered) -> bytes:
    """SHA-256 of the weights."""
    found = hashlib.sha256()
    for name in sorted(lowered.initializers):
        found.update(name.encode() + b"\0" + np.ascontiguousarray(lowered.initializers[name]).tobytes())
    return found.digest()


@functools.lru_cache(maxsize=1)
def _module() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtraError(
            f"TensorRT is not installed; run: {pip_line('tensorrt')}; on a Jetson it is part of JetPack: make the venv "
            "with --system-site-packages"
        ) from error
    except OSError as error:
        raise BackendError(f"TensorRT cannot be loaded: {first_line(error)}") from error
    version = tuple(int(n) for n in re.findall(r"\d+", tensorrt.__version__)[:2])
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise BackendError(f"TensorRT {tensorrt.__version__} is too old; {oldest} or newer is needed")
    return tensorrt
