"""The little of NVIDIA's CUDA driver that TensorRT needs around it: memory, copies, one stream. By ctypes.

The driver's library is wherever a driver is, on desktops and on Jetsons, under one name, so no package has to be
installed for it. Its first device is used, in the context that TensorRT's own runtime shares.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from inr_runtime.errors import BackendError

OUT_OF_MEMORY = 2
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR, _PORTABLE = 75, 76, 1
_DECLARED: dict[str, list[Any]] = {
    "cuInit": [c_uint],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
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


@functools.lru_cache(maxsize=1)
def open_driver() -> Driver:
    """The driver with its first GPU. Raises `BackendError` where there is no driver or no GPU."""
    return Driver(load_library())


def load_library() -> Any:
    """The driver's library. Raises `BackendError`."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise BackendError("no NVIDIA driver is installed, or none is visible (in a container: --gpus)") from error


class Driver:
    """CUDA's driver with the context of its first GPU. Every call raises `BackendError` with the driver's words.

    device_name: as the GPU calls itself. capability: as 8.7 for an Orin. version: the CUDA that the driver serves.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        for name, types in _DECLARED.items():
            getattr(library, name).argtypes = types
        self._call("cuInit", 0)
        device, context, text = c_int(), c_void_p(), ctypes.create_string_buffer(256)
        self._call("cuDeviceGet", byref(device), 0)
        self._call("cuDeviceGetName", text, len(text), device)
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._context = context
        self.device_name = text.value.decode(errors="replace")
        major, minor, version = (c_int() for _ in range(3))
        self._call("cuDeviceGetAttribute", byref(major), _MAJOR, device)
        self._call("cuDeviceGetAttribute", byref(minor), _MINOR, device)
        self._call("cuDriverGetVersion", byref(version))
        self.capability = f"{major.value}.{minor.value}"
        self.version = f"{version.value // 1000}.{version.value % 1000 // 10}"

    def use(self) -> None:
        """Make the GPU's context that of this thread; every thread has its own."""
        self._call("cuCtxSetCurrent", self._context)

    def free_memory(self) -> int:
        """Bytes that are free on the GPU."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the GPU."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        return address.value

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self._call("cuMemFree_v2", address)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array in the host's memory that the GPU copies from and to without a detour; `free_pinned` ends it."""
        size, address = int(np.prod(shape)) * np.dtype(dtype).itemsize, c_void_p()
        self._call("cuMemHostAlloc", byref(address), size, _PORTABLE)
        buffer = memoryview((ctypes.c_uint8 * size).from_address(address.value or 0))
        array: NDArray[Any] = np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape)
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Give back what `pinned` gave; nobody may look at it again."""
        self._call("cuMemFreeHost", array.ctypes.data)

    def stream(self) -> int:
        """A new stream's handle."""
        handle = c_void_p()
        self._call("cuStreamCreate", byref(handle), 1)  # not held up by the default stream
        return handle.value or 0

    def end_stream(self, stream: int) -> None:
        """Give back a stream."""
        self._call("cuStreamDestroy_v2", stream)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Begin to copy an array to the GPU; it must stay as it is until `wait`."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Begin to copy from the GPU into an array."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def wait(self, stream: int) -> None:
        """Until all that was begun on a stream is done."""
        self._call("cuStreamSynchronize", stream)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status == OUT_OF_MEMORY:
            raise BackendError("the GPU has no memory left for this video; close other programs or use --backend cpu")
        if status:
            text = c_char_p()
            self._library.cuGetErrorString(status, byref(text))
            words = (text.value or b"unknown error").decode(errors="replace")
            raise BackendError(f"the NVIDIA driver failed: {words} ({name}, code {status}); nvidia-smi says more")
