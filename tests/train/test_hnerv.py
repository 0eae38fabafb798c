"""HNeRV: the paper's sizes, an encoder that is only there to learn, embeddings that play between frames."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Call

from inr_export import export
from inr_runtime import open_video
from inr_runtime.backends import open_backend
from inr_runtime.lower import TARGETS, lower
from inr_train import Checkpoint, Clip, fit
from inr_train.bits import Bits
from inr_train.graph_runner import run_graph
from inr_train.models import HNeRV, HNeRVConfig, count_macs, count_parameters, meta_model
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel, quantize_grids, quantize_weights
from inr_train.ranges import measure_ranges
from inr_train.recipes import HNERV_RECIPE
from inr_train.runlog import Progress
from inr_train.strides import hnerv_strides
from inr_train.trace import trace

SMALL = {"strides": (4, 2), "channels": 12, "embedding": 6, "encoder_width": 8}
FAST = dataclasses.replace(HNERV_RECIPE, epochs=8, dtype="fp32", threads=1, learning_rate=5e-3)

PAPER = {
    "0.35m": (32, 329_726, 5.86),
    "0.75m": (48, 736_152, 13.89),
    "1.5m": (68, 1_505_172, 28.84),
    "3m": (97, 3_029_582, 59.34),
}


def small() -> HNeRV:
    torch.manual_seed(2)
    return HNeRV(HNeRVConfig(24, 40, 6, **SMALL)).eval()


def test_a_clip_too_long_for_a_preset_is_one_line_with_the_way_out(call: Call) -> None:
    """Embeddings took all numbers, and a network of one channel was trained for hours."""
    code, out, words = call("inr-train", "--list-presets", "--frames", "1500", "--json")
    assert code == 0, words
    listed = [row["preset"] for row in json.loads(out)]
    assert ("hnerv-0.35m" in listed, "hnerv-3m" in listed) == (False, True)
    with pytest.raises(ValueError, match="larger preset, or fewer --frames"):
        PRESETS["hnerv-0.35m"].config(720, 1280, 1500)


@pytest.mark.parametrize("size", PAPER)
def test_sizes_are_the_papers(size: str) -> None:
    """Table 17: widths; the published 1.5 M file: every transmitted number."""
    channels, parameters, gmac = PAPER[size]
    config = PRESETS[f"hnerv-{size}"].config(640, 1280, 132)
    model = meta_model("hnerv", config)
    assert config.channels == channels
    assert count_parameters(model) == parameters
    assert count_macs(model) / 1e9 == pytest.approx(gmac, abs=0.01)
    with torch.device("meta"):
        model.prepare()
    assert sum(p.numel() for n, p in model.named_parameters() if n.startswith("encoder.")) == 306_160
    assert count_parameters(model) == parameters


def test_strides_are_the_papers_and_fit_any_size() -> None:
    assert hnerv_strides(640, 1280) == (5, 4, 4, 2, 2)
    assert hnerv_strides(480, 960) == (5, 4, 3, 2, 2)
    assert hnerv_strides(960, 1920) == (5, 4, 4, 3, 2)
    for size in ((1, 1), (17, 33), (90, 160), (180, 320), (720, 1280), (1080, 1920), (2160, 3840)):
        model = meta_model("hnerv", PRESETS["hnerv-0.35m"].config(*size, 10))
        assert model.decode(*(torch.zeros(s, device="meta") for s in model.input_shapes())).shape[2:] == size


@pytest.mark.parametrize("size", [(24, 40), (23, 37)])
@pytest.mark.parametrize("output", ["tanh", "sigmoid", "linear"])
def test_it_traces_to_the_dialect_and_computes_the_same(size: tuple[int, int], output: str) -> None:
    model = HNeRV(HNeRVConfig(*size, 6, **SMALL, output=output)).eval()
    traced = trace(model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        inputs = model.sample([0.0, 2.5])
        expected = model.decode(*inputs)
        found = run_graph(traced.graph, inputs, [parameters[n] for n in traced.parameters])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert "embeddings" not in traced.parameters


def test_between_frames_embeddings_are_blended_as_the_player_does() -> None:
    model = small()
    (stored,) = quantize_grids(model, Bits())
    imitation = QuantizedModel(model, trace(model), Bits(8, 10))
    for t in (0.0, 1.25, 4.5, 9.0):
        with torch.no_grad():
            np.testing.assert_allclose(imitation.sample([t])[0].numpy(), stored.sample(t), rtol=1e-6, atol=1e-7)


def test_int8_engine_gives_what_training_imitates() -> None:
    model = small()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    (stored,) = quantize_grids(model, Bits())
    samples = [(torch.from_numpy(stored.sample(float(t))),) for t in range(6)]
    ranges = measure_ranges(traced.graph, [torch.from_numpy(w.dequantize()) for w in weights], samples)
    imitation = QuantizedModel(model, traced, Bits(8, 10), ranges)
    backend = open_backend(lower(traced.graph, weights, TARGETS["cpu-int8"], ranges))
    for t in range(6):
        found = backend.run({"x0": stored.sample(float(t))})[0].astype(int)
        with torch.no_grad():
            frame = imitation([float(t)])[0].clamp(0, 1)
        apart = np.abs(found - torch.round(frame * 255).permute(1, 2, 0).numpy())
        assert (apart > 1).mean() <= 0.005
    backend.close()


CONDITIONAL = {**SMALL, "activation": "sine", "time_width": 8, "encoding_levels": 6}


def test_a_conditional_decoder_trains_exports_and_plays(tiny_clip: Clip, tmp_path: Path) -> None:
    checkpoint = fit(tiny_clip, "hnerv-0.35m", recipe=FAST, config=CONDITIONAL)
    assert checkpoint.report["psnr_db"] > 15
    scales = [w for n, w in checkpoint.weights.items() if n.startswith("affine.") and n.endswith("weight")]
    assert len(scales) == 2
    assert all(w.abs().max() > 0 for w in scales)
    report = export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip)
    assert all(v.loss_db < 0.3 for v in report.verified)
    model = checkpoint.build()
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as video, torch.no_grad():
        for moment in (1.0, 2.5):
            played = video.at(moment / 25, interpolate=True).pixels.astype(int)
            expected = model([moment])[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
            assert np.abs(played - expected).mean() < 2


def test_a_conditional_decoder_begins_as_one_that_knows_no_time() -> None:
    torch.manual_seed(2)
    model = HNeRV(HNeRVConfig(24, 40, 6, **CONDITIONAL))
    plain = HNeRV(dataclasses.replace(model.config, time_width=0))
    plain.load_state_dict({n: w for n, w in model.state_dict().items() if not n.startswith(("time.", "affine."))})
    torch.testing.assert_close(model([1.0, 4.0]), plain([1.0, 4.0]))


@pytest.mark.parametrize("size", [(180, 320), (640, 1280), (720, 1280)])
def test_boost_has_the_parameters_of_its_name(size: tuple[int, int]) -> None:
    model = meta_model("hnerv", PRESETS["hnerv-boost-1.5m"].config(*size, 132))
    assert count_parameters(model) == pytest.approx(1.5e6, rel=0.03)
    if size == (720, 1280):
        assert model.get_parameter("embeddings").shape[2:] == (9, 16)


@pytest.mark.parametrize("field", [{"activation": "relu"}, {"time_width": -1}, {"encoding_levels": 0}])
def test_contradictions_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"activation|time"):
        HNeRVConfig(24, 40, 6, **{**CONDITIONAL, **field})


@pytest.fixture(scope="module")
def trained(tiny_clip: Clip) -> Checkpoint:
    return fit(tiny_clip, "hnerv-0.35m", recipe=FAST, config=SMALL)


def test_the_encoder_learns_and_is_not_kept(trained: Checkpoint) -> None:
    assert trained.report["psnr_db"] > 15
    assert not any(name.startswith("encoder.") for name in trained.weights)
    assert trained.weights["embeddings"].shape == (6, 6, 3, 5)
    assert trained.weights["embeddings"].std(dim=0).max() > 0
    model = trained.build()
    assert trained.report["parameters"] == count_parameters(model)


def test_it_plays_from_the_file_and_between_frames(trained: Checkpoint, tiny_clip: Clip, tmp_path: Path) -> None:
    report = export(trained, tmp_path / "v.nvb", reference=tiny_clip)
    assert all(v.loss_db < 0.2 for v in report.verified)
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as video:
        between = video.at(2.5 / 25, interpolate=True).pixels.astype(int)
        with torch.no_grad():
            model = trained.build()
            expected = model([2.5])[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    assert np.abs(between - expected).mean() < 2


@pytest.mark.parametrize("stop_at", [5, 22, 24])
def test_a_stopped_run_resumes_with_or_without_its_encoder(tiny_clip: Clip, tmp_path: Path, stop_at: int) -> None:
    def stop(p: Progress) -> None:
        if p.done == stop_at:
            raise KeyboardInterrupt

    whole = fit(tiny_clip, "hnerv-0.35m", recipe=FAST, config=SMALL, seed=4)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, "hnerv-0.35m", recipe=FAST, config=SMALL, seed=4, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert all(torch.equal(w, whole.weights[k]) for k, w in resumed.weights.items())


def test_without_quantization_the_file_holds_what_the_encoder_gave(tiny_clip: Clip, tmp_path: Path) -> None:
    checkpoint = fit(tiny_clip, "hnerv-0.35m", recipe=FAST, config=SMALL, quantize="none")
    report = export(checkpoint, tmp_path / "v.nvb", reference=tiny_clip, int8=False)
    assert abs(report.verified[0].loss_db) < 0.1
