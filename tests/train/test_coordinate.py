"""Networks of coordinates: pictures, video and sound from training to playback without PyTorch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Call, inr_play, run_text

from inr_export import export
from inr_runtime import open_audio, open_video
from inr_runtime.errors import UsageError
from inr_runtime.int8plan import plan_int8
from inr_runtime.sample import coordinates_of, encode_positions
from inr_train import Checkpoint, Clip, fit
from inr_train.bits import Bits
from inr_train.evaluate import frame_of
from inr_train.graph_runner import run_graph
from inr_train.heldout import score_heldout
from inr_train.models import NeRF, NeRFConfig, Siren, SirenConfig, coordinate, count_parameters, meta_model
from inr_train.models.base import time_tensor
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel
from inr_train.recipe import Recipe
from inr_train.recipes import NERF_RECIPE, SIREN_RECIPE
from inr_train.runlog import Progress
from inr_train.sound import Sound
from inr_train.trace import trace

FAMILIES = ("siren", "nerf")
SMALL = {"hidden": 24, "depth": 3, "tile_width": 16, "tile_height": 8}


def fast(family: str, epochs: int = 40, batch_size: int = 512) -> Recipe:
    recipe = {"siren": SIREN_RECIPE, "nerf": NERF_RECIPE}[family]
    changed = {"epochs": epochs, "batch_size": batch_size, "learning_rate": 5e-3}
    return dataclasses.replace(recipe, dtype="fp32", threads=1, **changed)


def small_sound(count: int = 1600, rate: int = 8000) -> Sound:
    t = np.arange(count) / rate
    left = 0.5 * np.sin(2 * np.pi * 200 * t) + 0.2 * np.sin(2 * np.pi * 330 * t) * np.exp(-5 * t)
    hiss = np.random.default_rng(0).normal(0, 0.03, (count, 2))
    return Sound.of((np.stack([left, 0.5 * left], axis=1) + hiss).astype(np.float32), rate)


def grainy(clip: Clip, frames: int) -> Clip:
    """The first frames with the grain of a camera, which keeps every network at some 30 dB."""
    grain = np.random.default_rng(0).normal(0, 8, (frames, *clip.frames.shape[1:]))
    pixels = (clip.frames[:frames] + grain).clip(0, 255).astype(np.uint8)
    return dataclasses.replace(clip, frames=pixels, info=dataclasses.replace(clip.info, frame_count=frames))


@pytest.mark.parametrize(("preset", "millions"), [("s", 3.2), ("m", 6.4), ("l", 12.7)])
@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_those_that_the_nerv_paper_compares(family: str, preset: str, millions: float) -> None:
    model = meta_model(family, PRESETS[f"{family}-{preset}"].config(720, 1280, 132))
    assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=0.005)


def test_the_first_layers_of_a_siren_are_the_papers() -> None:
    """Section 3.2: U(-1/n, 1/n) of n inputs, then U(-sqrt(6/n), sqrt(6/n)) / omega: sums spread like N(0, 1).

    Biases add 30 U(-1/16, 1/16) of 256 units, as in the paper's program.
    """
    torch.manual_seed(0)
    model = Siren(SirenConfig(64, 64, 8, hidden=256, depth=4))
    first = torch.cat([layer.weight for layer in model.first.values()]).detach()
    assert first.abs().max() == pytest.approx(1 / 3, rel=0.01)
    seen: list[torch.Tensor] = []
    for layer in model.hidden:
        layer.register_forward_hook(lambda _, inputs, output: seen.append(30 * output))
    with torch.no_grad():
        model.decode(*model.sample(model.calibration([0.0])[0]))
    assert [float(z.std()) for z in seen] == [pytest.approx((1 + (30 / 16) ** 2 / 3) ** 0.5, abs=0.15)] * 3


@pytest.mark.parametrize("family", [Siren, NeRF])
@pytest.mark.parametrize("size", [(5, 24, 40), (1, 24, 40), (1, 1, 300)])
def test_the_graph_of_a_tile_draws_what_training_sees(family: type[Siren] | type[NeRF], size: tuple[int, ...]) -> None:
    frames, height, width = size
    model = family(family.config_type(height, width, frames, **SMALL)).eval()
    traced, parameters = trace(model), dict(model.named_parameters())
    columns, rows = model.config.tile
    assert traced.graph.role == "tile"
    with torch.no_grad():
        whole = frame_of(model, frames - 1, (height, width))[0]
        feed = []
        for time_input in model.time_inputs:
            stored = time_tensor(time_input)
            side = {"x": width, "y": height}.get(stored.rule, 1)
            places = (2 * np.arange(stored.length, dtype=np.float64) + 1) / side - 1
            feed.append(stored.sample(frames - 1) if stored.rule == "t" else stored.along(places))
        weights = [parameters[name] for name in traced.parameters]
        tile = run_graph(traced.graph, [torch.from_numpy(f) for f in feed], weights)[0]
    assert tile.shape == (3, rows, columns)
    torch.testing.assert_close(tile[:, : min(rows, height)], whole[:, :rows, :columns], atol=1e-4, rtol=1e-4)


def test_a_long_axis_is_encoded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = NeRF(NeRFConfig(1, 300, 1, **SMALL).for_sound(2))
    places = torch.tensor([0, 7, 299])
    (of_table,) = model.sample(places)
    monkeypatch.setattr(coordinate, "TABLE_PLACES", 299)
    (of_step,) = NeRF(model.config).sample(places)
    assert torch.equal(of_table, of_step)
    wanted = encode_positions(coordinates_of(places.double().numpy(), 300), 2.0, 10)
    np.testing.assert_allclose(of_step[0, :, 0].numpy(), wanted, rtol=0, atol=1e-7)


def test_only_what_bears_it_runs_on_integers() -> None:
    siren = trace(Siren(SirenConfig(24, 40, 5, **SMALL))).graph
    nerf = trace(NeRF(NeRFConfig(24, 40, 5, **SMALL))).graph
    assert not plan_int8(siren).int8
    assert [nerf.nodes[i].op for i in sorted(plan_int8(nerf).int8)] == ["Conv"] * 3
    assert all(name not in plan_int8(nerf).edges for name in ("x0", "x1", "x2"))
    sound = dataclasses.replace(NeRFConfig(1, 300, 1, **SMALL), channels=1, result="pcm_f32")
    assert not plan_int8(trace(NeRF(sound)).graph).int8


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_come_from_the_whole_clip_and_repeat(family: str, tiny_clip: Clip) -> None:
    model = PRESETS[f"{family}-xs"]
    network = {"siren": Siren, "nerf": NeRF}[family](model.config(24, 40, 6))
    frames = torch.from_numpy(tiny_clip.frames).permute(0, 3, 1, 2)
    index, target = network.draw(frames, 2000, seed=3, step=7)
    again, _ = network.draw(frames, 2000, seed=3, step=7)
    other, _ = network.draw(frames, 2000, seed=3, step=8)
    assert torch.equal(index, again)
    assert not torch.equal(index, other)
    assert (int(index.min()) < 100, int(index.max()) > 5600) == (True, True)
    expected = tiny_clip.frames.reshape(-1, 3)[index.numpy()]
    assert np.array_equal(target[0, :, 0].T.numpy(), expected)
    everything, _ = network.draw(frames, 1 << 20, seed=3, step=7)
    assert torch.equal(everything, torch.arange(6 * 24 * 40))


@pytest.fixture(scope="module", params=FAMILIES)
def video(request: pytest.FixtureRequest, tiny_clip: Clip) -> tuple[Checkpoint, Clip]:
    clip = grainy(tiny_clip, 6)
    return fit(clip, f"{request.param}-xs", recipe=fast(request.param), config=SMALL), clip


@pytest.fixture(scope="module", params=FAMILIES)
def picture(request: pytest.FixtureRequest, tiny_clip: Clip) -> tuple[Checkpoint, Clip]:
    clip = grainy(tiny_clip, 1)
    return fit(clip, f"{request.param}-xs", recipe=fast(request.param, 200, 240), config=SMALL), clip


@pytest.fixture(scope="module", params=FAMILIES)
def sound(request: pytest.FixtureRequest) -> tuple[Checkpoint, Sound]:
    clip = small_sound()
    return fit(clip, f"{request.param}-xs", recipe=fast(request.param, 100, 400), config=SMALL), clip


def test_a_video_plays_from_its_file(video: tuple[Checkpoint, Clip], tmp_path: Path) -> None:
    checkpoint, clip = video
    report = export(checkpoint, tmp_path / "v.nvb", reference=clip)
    assert checkpoint.report["psnr_db"] > 20
    assert all(result.loss_db < 0.2 for result in report.verified)
    assert report.verified[0].target == ("cpu-fp32" if checkpoint.model == "siren" else "cpu-int8")
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as played:
        assert played.reader.header.media == "video"
        assert played.info == clip.info
        assert played[2].shape == (24, 40, 3)


def test_a_picture_plays_from_its_file_in_any_size(picture: tuple[Checkpoint, Clip], tmp_path: Path) -> None:
    checkpoint, clip = picture
    report = export(checkpoint, tmp_path / "p.nvb", reference=clip)
    assert checkpoint.report["psnr_db"] > 20
    assert all(result.loss_db < 0.2 for result in report.verified)
    large = dataclasses.replace(checkpoint, config={**checkpoint.config, "height": 72, "width": 120})
    with torch.no_grad():
        model = QuantizedModel(large.build(), trace(large.build()), Bits(8, checkpoint.bias_bits))
        expected = frame_of(model, 0, (72, 120))[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    with open_video(tmp_path / "p.nvb", target="cpu-fp32", size=(120, 72)) as played:
        assert played.reader.header.media == "image"
        assert np.abs(played[0] - expected).max() < 1.1


def test_a_sound_plays_from_its_file_at_any_rate(sound: tuple[Checkpoint, Sound], tmp_path: Path) -> None:
    checkpoint, clip = sound
    report = export(checkpoint, tmp_path / "s.nvb", reference=clip)
    assert checkpoint.report["psnr_db"] > 25
    assert [v.target for v in report.verified] == ["cpu-fp32"]
    assert report.verified[0].loss_db < 0.2
    with open_audio(tmp_path / "s.nvb") as played:
        own, fine = played.samples(), played.samples(rate=32000)
    assert own.shape == (1600, 2)
    assert fine.shape == (6400, 2)
    assert np.abs(fine[::4] - own).max() < 1e-3
    assert np.abs(own - clip.frames[0, 0]).mean() < 0.05


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stop_at", [3, 34, 41])
def test_a_stopped_run_ends_with_the_same_weights(family: str, stop_at: int, tiny_clip: Clip, tmp_path: Path) -> None:
    def stop(p: Progress) -> None:
        if p.done == stop_at:
            raise KeyboardInterrupt

    recipe = fast(family, epochs=4)
    whole = fit(tiny_clip, f"{family}-xs", recipe=recipe, config=SMALL, seed=5)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_clip, f"{family}-xs", recipe=recipe, config=SMALL, seed=5, output=tmp_path / "m.pt", progress=stop)
    resumed = fit(tiny_clip, output=tmp_path / "m.pt", resume=True)
    assert all(torch.equal(w, whole.weights[k]) for k, w in resumed.weights.items())


def test_frames_that_were_held_out_are_asked_for_between_frames(video: tuple[Checkpoint, Clip]) -> None:
    checkpoint, clip = video
    twice = dataclasses.replace(clip, frames=clip.frames.repeat(2, axis=0)[:11])
    scored = score_heldout(checkpoint, twice).report["heldout"]
    assert (scored["frames"], scored["psnr_db"] > 8) == (5, True)


def test_what_was_pruned_stays_zero(tiny_clip: Clip) -> None:
    checkpoint = fit(tiny_clip, "siren-xs", recipe=fast("siren", epochs=4), config=SMALL, sparsity=0.5)
    assert checkpoint.report["sparsity"] == pytest.approx(0.5, abs=0.01)


def test_losses_of_whole_frames_are_refused(tiny_clip: Clip) -> None:
    with pytest.raises(UsageError, match="learns from pixels; use --loss l2"):
        fit(tiny_clip, "siren-xs", recipe=dataclasses.replace(fast("siren"), loss="l1_fft"))
    with pytest.raises(UsageError, match="for sound take a network of coordinates"):
        fit(small_sound(), "nerv-xxs")


def test_the_commands_take_a_sound_and_a_picture(call: Call, tmp_path: Path, video_frame: Path) -> None:
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 4000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(np.arange(2000) / 7)).astype("<i2").tobytes())
    small = ("--epochs", 2, "--set", "hidden=8", "--set", "depth=2", "-b", 500, "-q", "--threads", 1)
    for source, name in (("sound.wav", "s"), (video_frame, "p")):
        assert call("inr-train", source, "--preset", "siren-xs", "-o", f"{name}.pt", *small)[0] == 0
        code, _, told = call("inr-export", f"{name}.pt", "--max-loss-db", 9)
        assert (code, f"-o {name}.{'wav' if name == 's' else 'png'}" in told) == (0, True)
    assert inr_play(tmp_path / "s.nvb", "-o", tmp_path / "out.wav", "--rate", 8000).returncode == 0
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (8000, 4000, 1)
    assert inr_play(tmp_path / "p.nvb", "-o", tmp_path / "out.png", "--size", "30x20").returncode == 0
    for arguments, reason in WRONG.items():
        done = run_text("inr-play", *(tmp_path / a if "." in a else a for a in arguments.split()), code=2)
        assert reason in done.stderr
    assert "2000 samples" in inr_play(tmp_path / "s.nvb", "--info").stdout.decode()


WRONG = {
    "s.nvb -o a.mp4": "sound is written as WAV; use -o",
    "s.nvb": "write it with -o out.wav",
    "s.nvb -o a.wav --size 3x4": "--size is for pictures",
    "p.nvb -o a.wav": "holds pictures, no sound",
    "p.nvb -o a.png --rate 100": "no --rate",
    "p.nvb --info --size 3x4": "--info shows what the file holds",
}


@pytest.fixture
def video_frame(tmp_path: Path) -> Path:
    """A picture of 23x17, as a file."""
    import av

    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    av.VideoFrame.from_ndarray(pixels, "rgb24").save(str(tmp_path / "picture.png"))
    return tmp_path / "picture.png"


def test_playback_never_imports_torch(picture: tuple[Checkpoint, Clip], tmp_path: Path) -> None:
    export(picture[0], tmp_path / "p.nvb", reference=picture[1])
    code = (
        "import sys; from inr_runtime import open_video; "
        f"v = open_video({str(tmp_path / 'p.nvb')!r}, size=(9, 7)); assert v[0].shape == (7, 9, 3); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
