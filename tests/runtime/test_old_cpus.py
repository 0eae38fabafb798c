"""OpenVINO on CPUs without VNNI, where its int8 sums overflow in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.ort import FakeOrt

from inr_runtime import open_video
from inr_runtime.backends import choice, openvino
from inr_runtime.errors import BackendError


@pytest.fixture
def old_cpu(ort_openvino: FakeOrt, monkeypatch: pytest.MonkeyPatch) -> FakeOrt:
    """A machine with OpenVINO and such a CPU."""
    for module in (choice, openvino):
        monkeypatch.setattr(module, "int8_saturates", lambda: True)
    monkeypatch.setattr(choice, "has_bf16_matrices", lambda: False)
    return ort_openvino


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_float32_is_taken_where_int8_would_overflow(backend: str, old_cpu: FakeOrt, tiny_nvb: Path) -> None:
    with open_video(tiny_nvb, backend=backend, threads=1) as video:
        assert (video.target.name, video.failed) == ("openvino-fp32", {})


def test_int8_that_would_overflow_is_refused_with_the_ways_out(old_cpu: FakeOrt, tiny_nvb: Path) -> None:
    with pytest.raises(BackendError, match=r"overflow on this CPU .*; use --target openvino-fp32 or cpu-int8$"):
        open_video(tiny_nvb, target="openvino-int8")
    with open_video(tiny_nvb, target="cpu-int8") as video:
        assert video[0].shape == (32, 48, 3)
