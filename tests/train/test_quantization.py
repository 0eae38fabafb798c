"""Training imitates exactly what the file stores and what the int8 engine computes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inr_runtime.backends import open_backend
from inr_runtime.lower import TARGETS, lower
from inr_runtime.tensors import quantize
from inr_runtime.units import leaky_parameters
from inr_train.bits import Bits
from inr_train.imitation import imitate_quantize, leaky_steps
from inr_train.models import Edge, NeRV
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel, quantize_weights
from inr_train.ranges import measure_ranges
from inr_train.trace import trace, weight_axes


@given(
    arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(-100, 100, width=32)),
    st.integers(2, 10),
    st.sampled_from([None, 0, 1]),
)
@settings(deadline=None, max_examples=100)
def test_imitation_equals_the_definition(array: np.ndarray, bits: int, axis: int | None) -> None:
    stored = quantize(array, bits, axis).dequantize()
    imitated = imitate_quantize(torch.from_numpy(array), bits, axis).numpy()
    step = np.abs(array).max(initial=0) / (2 ** (bits - 1) - 1)
    np.testing.assert_allclose(imitated, stored, atol=1e-6 * max(step, 1e-30), rtol=1e-5)


@pytest.mark.parametrize("size", [1e-12, 5e-13, 1e-15, 0.0])
def test_what_no_scale_can_hold_is_zero_in_both_and_still_learns(size: float) -> None:
    """Found by the property test above: the smallest scale rounded 1e-12 up in training, and down in the file."""
    array = np.full((2, 3), size, np.float32)
    weight = torch.from_numpy(array).requires_grad_()
    imitated = imitate_quantize(weight, 2, 0)
    np.testing.assert_array_equal(imitated.detach().numpy(), quantize(array, 2, 0).dequantize())
    imitated.sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0


def test_rounding_passes_gradients_through() -> None:
    weight = torch.randn(4, 9, requires_grad=True)
    imitate_quantize(weight, 4, 0).sum().backward()
    assert torch.allclose(weight.grad, torch.ones_like(weight))


def test_rows_that_are_not_very_short_have_scales_of_their_own() -> None:
    """What reads the finest grid of an Edge, 45 numbers a row, had two fifths of all errors of rounding."""
    model = Edge(PRESETS["edge-10"].config(180, 320, 132))
    traced = trace(model)
    axes = dict(zip(traced.parameters, weight_axes(traced.graph), strict=True))
    assert {name: axes[name] for name in ("enter.1.weight", "ups.0.weight", "head.weight", "head.bias")} == {
        "enter.1.weight": 0,
        "ups.0.weight": 0,
        "head.weight": 0,
        "head.bias": None,
    }


INT8_VARIANTS = [
    {},
    {"activation": "silu", "output": "tanh"},
    {"activation": "relu"},
    {"activation": "gelu", "output": "sigmoid"},
    {"upscale": "bilinear", "activation": "leaky_relu"},
    {"upscale": "transposed", "activation": "relu"},
]


@pytest.mark.parametrize("variant", INT8_VARIANTS)
def test_int8_engine_gives_what_training_imitates(variant: dict[str, object]) -> None:
    """At most one code value apart on 0.5 % of values (plus ties of float summation order)."""
    torch.manual_seed(1)
    model = NeRV(dataclasses.replace(PRESETS["nerv-xxs"].config(27, 40, 6), **variant)).eval()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    tensors = [torch.from_numpy(w.dequantize()) for w in weights]
    ranges = measure_ranges(traced.graph, tensors, [model.sample([t]) for t in range(6)])
    imitation = QuantizedModel(model, traced, Bits(8, 10), ranges)
    backend = open_backend(lower(traced.graph, weights, TARGETS["cpu-int8"], ranges))
    for t in range(6):
        inputs = model.sample([t])
        found = backend.run({"x0": inputs[0].numpy()})[0].astype(int)
        with torch.no_grad():
            frame = imitation([t])[0].clamp(0, 1)
        expected = torch.round(frame * 255).permute(1, 2, 0).numpy().astype(int)
        apart = np.abs(found - expected)
        assert apart.max() <= 4
        assert (apart > 0).mean() < 0.02
        assert (apart > 1).mean() <= 0.005
    backend.close()


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_training_and_runtime_agree_on_the_steps_behind_a_leaky_relu(alpha: float) -> None:
    for zero in range(256):
        scale = torch.tensor(0.0123, requires_grad=True)
        fine, middle = leaky_steps(scale, torch.tensor(float(zero)), alpha)
        expected = leaky_parameters(np.float32(0.0123), zero, alpha)
        assert (fine.detach().numpy(), int(middle)) == expected
        assert torch.autograd.grad(fine, scale)[0] > 0


def test_fp32_engine_gives_what_pytorch_gives() -> None:
    model = NeRV(PRESETS["nerv-xxs"].config(24, 40, 6)).eval()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    backend = open_backend(lower(traced.graph, weights, TARGETS["cpu-fp32"]))
    weights_only = QuantizedModel(model, traced, Bits(8, 10))
    inputs = model.sample([3.0])
    with torch.no_grad():
        expected = torch.round(weights_only([3.0])[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    found = backend.run({"x0": inputs[0].numpy()})[0].astype(int)
    assert np.abs(found - expected).max() <= 1
    backend.close()


def test_quant_noise_imitates_a_share_of_the_weights_in_training_and_all_elsewhere() -> None:
    torch.manual_seed(1)
    model = NeRV(PRESETS["nerv-xxs"].config(24, 40, 6))
    noisy, full = (QuantizedModel(model, trace(model), Bits(3, 10), noise=n) for n in (0.7, 1.0))
    noisy.seed_step(5)
    first = noisy.quantized_weights()
    noisy.seed_step(5)
    again = noisy.quantized_weights()
    noisy.seed_step(6)
    other = noisy.quantized_weights()
    largest = max(range(len(first)), key=lambda i: first[i].numel())
    kept = dict(model.named_parameters())[noisy.trace.parameters[largest]]
    assert float((first[largest] == kept).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(first[largest], again[largest])
    assert not torch.equal(first[largest], other[largest])
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(noisy.quantized_weights(), full.quantized_weights(), strict=True))
