"""Pixel-wise networks against NeRV, at equal numbers of parameters (NeRV, Bunny)."""

from __future__ import annotations

from tests.bench.paper_tables.row import Row

SOURCE = "NeRV (Chen et al. 2021), Bunny 1280x720: pixel-wise networks"
PIXELWISE_EPOCHS, NERV_EPOCHS = 120, 1200
TENTH = "a tenth of NeRV's epochs, as in the paper"
REDUCED = {
    "siren": ("siren-xs", {"hidden": 161}, {"epochs": 10, "learning_rate": 1e-3, "batch_size": 1 << 12}),
    "nerf": ("nerf-xs", {"hidden": 158}, {"epochs": 10, "learning_rate": 5e-3, "batch_size": 1 << 12}),
    "nerv": ("nerv-xxs", {"channels": 8, "lower_width": 16}, {"epochs": 100, "learning_rate": 5e-3}),
}
"""Networks of about 79,000 parameters, and a tenth of NeRV's epochs for those of pixels. The learning rates lie between
those of the presets of a quarter and of forty times the size; they are not tuned."""


def _row(name: str, preset: str, published: float, speeds: tuple[float, float, float]) -> Row:
    family = preset.split("-")[0]
    by_pixels = family != "nerv"
    reduced, config, recipe = REDUCED[family] if preset.endswith("-s") else ("", {}, {})
    return Row(
        "pixelwise",
        name,
        preset,
        published,
        SOURCE,
        epochs=PIXELWISE_EPOCHS if by_pixels else NERV_EPOCHS,
        reduced=reduced,
        reduced_config=config,
        reduced_recipe=recipe,
        facts=dict(zip(("train_speed", "encode_time", "decode_fps"), speeds, strict=True)),
        note=TENTH if by_pixels and reduced else "",
        file=True,
    )


PIXELWISE = (
    _row("SIREN, 3.2 M", "siren-s", 31.39, (1, 2.5, 1.4)),
    _row("NeRF-style, 3.2 M", "nerf-s", 33.31, (1, 2.5, 1.4)),
    _row("NeRV-S, 3.2 M", "nerv-s", 34.21, (25, 1, 54.5)),
    _row("SIREN, 6.4 M", "siren-m", 31.37, (1, 5, 0.8)),
    _row("NeRF-style, 6.4 M", "nerf-m", 35.17, (1, 5, 0.8)),
    _row("NeRV-M, 6.3 M", "nerv-m", 38.14, (50, 1, 53.8)),
    _row("SIREN, 12.7 M", "siren-l", 25.06, (1, 7, 0.4)),
    _row("NeRF-style, 12.7 M", "nerf-l", 37.94, (1, 7, 0.4)),
    _row("NeRV-L, 12.5 M", "nerv-l", 41.29, (70, 1, 52.9)),
)
