"""Recipes by name: the papers' own, and ours for short budgets."""

from __future__ import annotations

from dataclasses import replace

from inr_train.recipe import Phase, Recipe

INT8_PHASES = (Phase("fit", 0.85), Phase("float reference", 0.15, branch=True), Phase("int8", 0.15, quantize="int8"))

FAST_RECIPE = Recipe("fast", epochs=100, phases=INT8_PHASES)
"""Short budgets on any machine: L1 of pixels and of FFT coefficients, high learning rate."""

ROUNDED_PHASES = (Phase("fit", 1.0), Phase("weights", 0.0, quantize="weights"))

EDGE_RECIPE = replace(
    FAST_RECIPE,
    name="edge",
    epochs=60,
    phases=ROUNDED_PHASES,
    alpha=0.0,
    decay="linear",
    optimizer="muon",
    learning_rate=1e-2,
    grid_rate=3.0,
    muon_rate=1.6e-2,
    weight_decay=0.05,
)
"""Muon for matrices, Adam for the rest. The decay is what keeps long runs from weights that are as good and harder to
round. Weights are rounded at the end (`compensation.py`), which loses less than a
tail that imitates integers, and leaves all steps to the fit."""

MUON_RECIPE = replace(EDGE_RECIPE, name="muon", learning_rate=2.5e-3, muon_rate=3.2e-2)
"""The same with the rates that NeRV and HNeRV want (`tests.bench.rates`); HiNeRV wants those of `edge`."""

NERV_RECIPE = Recipe(
    "nerv",
    epochs=300,
    phases=INT8_PHASES,
    loss="l1_ssim",
    alpha=0.7,
    learning_rate=5e-4,
    warmup=0.2,
    betas=(0.5, 0.999),
)
"""The NeRV paper's training (batch 1, Adam, L1 + SSIM), with the quantization-aware tail added."""

HNERV_RECIPE = Recipe(
    "hnerv",
    epochs=300,
    phases=INT8_PHASES,
    batch_size=2,
    loss="l2",
    learning_rate=1e-3,
    warmup=0.1,
    betas=(0.9, 0.999),
)
"""The HNeRV paper's training (batch 2, Adam, L2), with the quantization-aware tail added."""

HINERV_RECIPE = Recipe(
    "hinerv",
    epochs=300,
    phases=INT8_PHASES,
    loss="l1_msssim",
    alpha=0.7,
    learning_rate=2e-3,
    warmup=0.1,
    betas=(0.9, 0.999),
)
"""The HiNeRV paper's training (Adam, L1 + MS-SSIM of 5 taps), frame by frame, with our quantization-aware tail.

The paper draws patches (`--set patch=80` at 1280x720, 120 at 1920x1080), 144 a step: one frame's worth of pixels, which
is what batch size 1 means here too. It scales the rate with the share of a frame that a step sees, so there it is 2e-3
as here; nothing scales it here, and other batch sizes want another `--lr`.
"""


SIREN_RECIPE = Recipe(
    "siren",
    epochs=300,
    phases=INT8_PHASES,
    batch_size=1 << 12,
    loss="l2",
    learning_rate=2e-3,
    warmup=0.02,
    betas=(0.9, 0.999),
    bias_bits=14,
    dtype="fp32",  # the argument of a sine spans many turns
)
"""Networks of coordinates (Sitzmann et al. 2020: Adam, L2 of pixels drawn at random), in batches of 2^12 pixels."""

NERF_RECIPE = replace(SIREN_RECIPE, name="nerf", learning_rate=1e-2, dtype="")
"""The same for ReLU and encoded coordinates, which bear a higher rate and 16-bit floats."""

RECIPES = {
    r.name: r
    for r in (
        EDGE_RECIPE,
        MUON_RECIPE,
        FAST_RECIPE,
        NERV_RECIPE,
        HNERV_RECIPE,
        HINERV_RECIPE,
        SIREN_RECIPE,
        NERF_RECIPE,
    )
}
