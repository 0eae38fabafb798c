"""NVIDIA's driver as real C functions over the host's memory: wrong types and stray addresses fail as they would."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

NUMBER = POINTER(c_int)
SIGNATURES: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [NUMBER],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDeviceGet": [NUMBER, c_int],
    "cuDeviceGetName": [c_void_p, c_int, c_int],
    "cuDeviceGetAttribute": [NUMBER, c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuMemGetInfo_v2": [POINTER(c_size_t), POINTER(c_size_t)],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemHostAlloc": [POINTER(c_void_p), c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamDestroy_v2": [c_void_p],
}
CONTEXT = 0xC000


class FakeCuda:
    """A stand-in for `ctypes.CDLL("libcuda.so.1")` with one GPU.

    room: bytes that can be allocated there. fails: code that a function, by its name, is to return. held: what is
    allocated now, by address.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.room, self.fails, self.version = room, dict[str, int](), 13000
        self.held: dict[int, ctypes.Array[Any]] = {}
        self.streams: set[int] = set()
        self._current, self._last_stream = False, 0x5000
        self._functions = {name: self._as_c(name, types) for name, types in SIGNATURES.items()}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_functions"][name]
        except KeyError:
            raise AttributeError(f"undefined symbol: {name}") from None

    def _as_c(self, name: str, types: list[Any]) -> Any:
        body: Callable[..., int] = getattr(type(self), f"_{name}")

        def call(*arguments: Any) -> int:
            if code := self.fails.get(name):
                return code
            if not self._current and name.startswith(("cuMem", "cuStream")):
                return 201  # invalid device context
            return body(self, *arguments)

        return CFUNCTYPE(c_int, *types)(call)

    def _cuInit(self, flags: int) -> int:
        return 0 if flags == 0 else 1

    def _cuDriverGetVersion(self, version: Any) -> int:
        version[0] = self.version
        return 0

    def _cuGetErrorString(self, code: int, text: Any) -> int:
        text[0] = {100: b"no CUDA-capable device is detected", 999: b"unknown error"}.get(code, b"some error")
        return 0

    def _cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device[0] = 0
        return 0 if ordinal == 0 else 101

    def _cuDeviceGetName(self, text: int, size: int, device: int) -> int:
        name = b"Fake Orin\0"
        ctypes.memmove(text, name, min(size, len(name)))
        return 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        value[0] = {75: 8, 76: 7}[attribute]
        return 0

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        context[0] = CONTEXT
        return 0

    def _cuCtxSetCurrent(self, context: int) -> int:
        self._current = context == CONTEXT
        return 0 if self._current else 201

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free[0], total[0] = self.room, 1 << 33
        return 0

    def _take(self, address: Any, size: int) -> int:
        if size > self.room:
            return 2
        block = (ctypes.c_uint8 * size)()
        address[0] = ctypes.addressof(block)
        self.held[ctypes.addressof(block)] = block
        self.room -= size
        return 0

    def _give(self, address: int) -> int:
        if address not in self.held:
            return 1
        self.room += len(self.held.pop(address))
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: int) -> int:
        return self._take(address, size)

    def _cuMemFree_v2(self, address: int) -> int:
        return self._give(address)

    def _cuMemHostAlloc(self, address: Any, size: int, flags: int) -> int:
        return self._take(address, size)

    def _cuMemFreeHost(self, address: int) -> int:
        return self._give(address)

    def _copy(self, to: int, source: int, size: int, stream: int) -> int:
        fits = all(a in self.held and size <= len(self.held[a]) for a in (to, source))
        if not fits or stream not in self.streams:
            return 1
        ctypes.memmove(to, source, size)
        return 0

    _cuMemcpyHtoDAsync_v2 = _cuMemcpyDtoHAsync_v2 = _copy

    def _cuStreamCreate(self, stream: Any, flags: int) -> int:
        self._last_stream += 16
        stream[0] = self._last_stream
        self.streams.add(self._last_stream)
        return 0

    def _cuStreamSynchronize(self, stream: int) -> int:
        return 0 if stream in self.streams else 400

    def _cuStreamDestroy_v2(self, stream: int) -> int:
        self.streams.discard(stream)
        return 0
