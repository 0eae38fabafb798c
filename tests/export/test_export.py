"""From model.pt to a file that plays: through the API and the commands."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import av
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import run_text

import inr_train.trace
from inr_export import export, export_onnx
from inr_export.pipeline import decode_with_torch
from inr_runtime import open_video
from inr_runtime.errors import InputError, PromiseError, UsageError
from inr_runtime.format import NvbReader
from inr_runtime.metrics import psnr
from inr_runtime.segment import make_thumbnail
from inr_train import Checkpoint, Clip, fit
from inr_train.models import NeRV


def run(command: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sysconfig.get_path("scripts")) / command
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, cwd=folder, check=False)


@pytest.fixture(scope="session")
def gradient_clip() -> Clip:
    """With the grain of a camera, which keeps every network at some 30 dB, as pictures do."""
    y, x = np.mgrid[0:24, 0:40]
    frames = [np.stack([x * 5, y * 8 + 4 * t, 90 + 10 * t + 0 * x], axis=-1).clip(0, 255) for t in range(6)]
    from inr_runtime.info import VideoInfo

    grain = np.random.default_rng(0).normal(0, 6, (6, 24, 40, 3))
    return Clip((np.stack(frames) + grain).clip(0, 255).astype(np.uint8), VideoInfo(40, 24, 6), "gradient")


@pytest.fixture(scope="session")
def trained(gradient_clip: Clip) -> Checkpoint:
    return fit(gradient_clip, "nerv-xxs", epochs=120)


@pytest.fixture(scope="session")
def model_pt(trained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    trained.save(path)
    return path


def test_an_export_verifies_every_frame_and_keeps_its_promise(
    trained: Checkpoint, gradient_clip: Clip, tmp_path: Path
) -> None:
    report = export(trained, tmp_path / "v.nvb", reference=gradient_clip)
    assert [v.target for v in report.verified] == ["cpu-int8", "cpu-fp32"]
    assert all(v.loss_db < 0.2 and not v.estimated for v in report.verified)
    assert report.bytes == (tmp_path / "v.nvb").stat().st_size
    coded = report.cost.ideal_bytes
    assert coded < report.bytes < coded + 3000
    with open_video(tmp_path / "v.nvb", target="cpu-fp32") as video:
        assert video.info == trained.info
        expected = decode_with_torch(trained.build(), 3, (24, 40)).astype(int)
        assert np.abs(video[3].astype(int) - expected).mean() < 2


def test_without_the_source_the_loss_is_estimated_and_said_to_be(trained: Checkpoint, tmp_path: Path) -> None:
    report = export(dataclasses.replace(trained, source={}), tmp_path / "v.nvb")
    assert all(v.estimated and v.source_db is None for v in report.verified)


def test_pruning_here_is_compared_with_all_weights_where_the_source_is_not_at_hand(
    model_pt: Path, tmp_path: Path
) -> None:
    """The file was compared with the pruned model, which it is equal to, and passed."""
    data = torch.load(model_pt, weights_only=True)
    torch.save({**data, "source": {}}, tmp_path / "m.pt")
    whole = run_text("inr-export", tmp_path / "m.pt", "-o", tmp_path / "a.nvb", "--json")
    assert json.loads(whole.stdout)["loss_db"] < 0.5
    pruned = run_text("inr-export", tmp_path / "m.pt", "-o", tmp_path / "b.nvb", "--prune", "0.9", code=4)
    assert "than the float model" in pruned.stderr


def test_the_loss_is_that_of_the_frames_which_training_compared(
    trained: Checkpoint, gradient_clip: Clip, tmp_path: Path
) -> None:
    """Where it was short of time, the mean of a few frames was compared with that of all."""
    whole = export(trained, tmp_path / "a.nvb", reference=gradient_clip).verified[0]
    known = trained.report["psnr_float_8bit_db"]
    short = dataclasses.replace(
        trained, recipe={**trained.recipe, "every": 6}, report={**trained.report, "psnr_float_8bit_db": known + 3}
    )
    part = export(short, tmp_path / "b.nvb", reference=gradient_clip, max_loss_db=99).verified[0]
    assert part.source_db == whole.source_db
    with open_video(tmp_path / "b.nvb", target=part.target) as video:
        first = psnr(video[0], gradient_clip.frames[0])
    assert part.loss_db == pytest.approx(known + 3 - first)


def test_a_broken_promise_is_an_error_that_carries_the_report(
    trained: Checkpoint, gradient_clip: Clip, tmp_path: Path
) -> None:
    with pytest.raises(PromiseError, match="max-loss-db") as caught:
        export(trained, tmp_path / "v.nvb", reference=gradient_clip, max_loss_db=-5)
    assert caught.value.report.verified
    assert (tmp_path / "v.nvb").exists()


def test_without_int8_the_file_plays_in_float_only(trained: Checkpoint, tmp_path: Path) -> None:
    report = export(trained, tmp_path / "v.nvb", int8=False)
    assert [v.target for v in report.verified] == ["cpu-fp32"]
    with pytest.raises(InputError, match="no activation ranges"):
        open_video(tmp_path / "v.nvb", target="cpu-int8")


def test_a_float_model_gets_measured_ranges(gradient_clip: Clip, tmp_path: Path) -> None:
    checkpoint = fit(gradient_clip, "nerv-xxs", epochs=30, quantize="none")
    assert not checkpoint.ranges
    report = export(checkpoint, tmp_path / "v.nvb", reference=gradient_clip, max_loss_db=3)
    assert report.verified[0].target == "cpu-int8"


def test_the_plain_onnx_file_gives_the_same_frames(trained: Checkpoint, gradient_clip: Clip, tmp_path: Path) -> None:
    export(trained, tmp_path / "v.nvb", check=False, reference=gradient_clip)
    for target in ("cpu-int8", "cpu-fp32"):
        path = tmp_path / f"{target}.onnx"
        export_onnx(tmp_path / "v.nvb", path, target)
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        with open_video(tmp_path / "v.nvb", target=target) as video:
            sample = trained.build().sample([2.0])[0].numpy()
            assert np.array_equal(session.run(None, {"x0": sample})[0][0], video[2])


def test_a_model_outside_the_dialect_is_refused(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = NeRV.decode
    monkeypatch.setattr(inr_train.trace, "_TRACED", {})
    monkeypatch.setattr(NeRV, "decode", lambda self, *x: torch.cumsum(original(self, *x), dim=3))
    with pytest.raises(InputError, match="CumSum"):
        export(trained, tmp_path / "v.nvb")
    assert not list(tmp_path.iterdir())


def test_nan_weights_are_refused_before_anything_is_written(trained: Checkpoint, tmp_path: Path) -> None:
    broken = {k: torch.full_like(v, float("nan")) for k, v in trained.weights.items()}
    with pytest.raises(InputError, match="NaN"):
        export(dataclasses.replace(trained, weights=broken), tmp_path / "v.nvb")
    assert not list(tmp_path.iterdir())


def test_the_thumbnail_is_of_what_is_stored_however_few_its_bits(model_pt: Path, tmp_path: Path) -> None:
    done = run("inr-export", model_pt, "--bits", "2", "-o", "a.nvb", folder=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "more --bits, or train for 2 (inr-train --bits 2)" in done.stderr
    with NvbReader(tmp_path / "a.nvb") as reader, open_video(tmp_path / "a.nvb", target="cpu-fp32") as video:
        segment = reader.segment(0)
        shown = make_thumbnail(video[segment.thumbnail_frame]).astype(int)
    assert np.abs(shown - segment.thumbnail).max() <= 1


def test_command_export_prints_one_json_object_and_the_next_command(model_pt: Path, tmp_path: Path) -> None:
    done = run("inr-export", model_pt, "--int8", "--json", "--onnx", "v.onnx", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"bytes", "bits_per_pixel", "parameters", "gmac_per_frame", "psnr_db", "loss_db"} <= set(report)
    assert "next: inr-play model.nvb" in done.stderr
    assert (tmp_path / "model.nvb").exists()
    assert (tmp_path / "v.onnx").exists()


def test_command_export_exit_codes(model_pt: Path, tmp_path: Path) -> None:
    (tmp_path / "there.nvb").write_bytes(b"mine")
    assert run("inr-export", model_pt, "-o", "there.nvb", folder=tmp_path).returncode == 2
    assert (tmp_path / "there.nvb").read_bytes() == b"mine"
    assert run("inr-export", "missing.pt", folder=tmp_path).returncode == 3
    assert run("inr-export", model_pt, "--bogus", folder=tmp_path).returncode == 2
    assert run("inr-export", model_pt, "-o", "a.nvb", "--max-loss-db", "-9", folder=tmp_path).returncode == 4
    (tmp_path / "junk.pt").write_bytes(b"junk")
    done = run("inr-export", "junk.pt", "-o", "b.nvb", folder=tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def test_a_video_in_place_of_a_model_is_trained_first(gradient_clip: Clip, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 40, 24, "yuv420p"
        for frame in gradient_clip.frames[:2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    done = run("inr-export", "v.mp4", "-o", "video.nvb", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["psnr_db"] > 15
    with open_video(tmp_path / "video.nvb") as video:
        assert len(video) == 2
    (tmp_path / "video.nvb").unlink()
    again = run("inr-export", "v.mp4", "-o", "video.nvb", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "using video.pt" in again.stderr


def test_an_existing_output_is_refused_before_any_work(trained: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "v.nvb").write_bytes(b"mine")
    with pytest.raises(UsageError, match="-y"):
        export(trained, tmp_path / "v.nvb")


@pytest.mark.parametrize(
    "first", ["import inr_train.command", "import inr_export.command", "from inr_export import ExportReport"]
)
def test_the_public_names_are_functions_whatever_was_imported_first(first: str) -> None:
    """A module that shares the name of a function hides it once it was imported."""
    code = (
        f"{first}\nfrom inr_train import fit\nfrom inr_export import export\nassert callable(fit) and callable(export)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
