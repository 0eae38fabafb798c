"""`--compare`: a file against the video that it was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from builders import make_nvb
from commands import Call, inr_play
from numpy.typing import NDArray

from inr_player.compare import Comparison, Reference, compare, open_reference
from inr_player.selection import Selection
from inr_runtime import Decoder, Frame, VideoInfo, open_video
from inr_runtime.errors import InputError, UsageError
from inr_runtime.media import Position, open_writer
from inr_runtime.metrics import psnr

KEYS = {
    "psnr_db",
    "psnr_8bit_db",
    "psnr_yuv_db",
    "ms_ssim",
    "ms_ssim_y",
    "per_frame_psnr_db",
    "bytes",
    "bits_per_pixel",
    "first_frame",
    "frames",
    "backend",
}


def save(target: Path, pictures: Sequence[NDArray[np.uint8]], **options: str) -> Path:
    """Write pictures as a video or images."""
    height, width = pictures[0].shape[:2]
    info = VideoInfo(width, height, len(pictures), Fraction(24))
    with open_writer(str(target), info, **options) as writer:  # type: ignore[arg-type]
        for i, pixels in enumerate(pictures):
            writer.write(Frame(i, info.time_of(i), pixels))
    return target


def measure(video: Decoder, reference: Reference, selection: Selection | None = None) -> tuple[Comparison, list[str]]:
    """Open the reference, compare, and collect what was said."""
    selection = selection or Selection()
    said: list[str] = []
    frames = selection.of(video.info)
    pictures = open_reference(reference, video, frames, selection.bounded, said.append)
    return compare(video, pictures, frames), said


def test_a_file_equals_its_own_images(tiny_nvb: Path, tmp_path: Path) -> None:
    assert inr_play(tiny_nvb, "-q", "-o", tmp_path / "%d.png").returncode == 0
    done = inr_play(tiny_nvb, "--compare", tmp_path / "%d.png", "--json", "-q")
    scores = json.loads(done.stdout)
    assert set(scores) == KEYS
    assert (scores["psnr_db"], scores["psnr_8bit_db"], scores["psnr_yuv_db"]) == (100.0, 100.0, 100.0)
    assert scores["per_frame_psnr_db"] == [100.0] * 12
    assert (scores["ms_ssim"], scores["ms_ssim_y"]) == (None, None)  # 48x32 has no fifth scale
    assert (scores["frames"], scores["bytes"]) == (12, tiny_nvb.stat().st_size)
    assert done.stderr == b""


def test_a_file_is_close_to_its_own_y4m(call: Call, tiny_nvb: Path) -> None:
    assert call(tiny_nvb, "-o", "own.y4m", "--pix-fmt", "yuv444p")[0] == 0
    code, text, err = call(tiny_nvb, "--compare", "own.y4m")
    assert (code, text.count("\n")) == (0, 1)
    assert text.startswith("psnr ")
    assert "worst frame" in text
    assert float(text.split()[1]) > 40
    assert "cpu-int8" in err


def test_means_and_the_worst_frame(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        pictures = list(video[:])
        pictures[4] = pictures[4] // 2
        result, _ = measure(video, Reference(str(save(tmp_path / "%d.png", pictures))))
        assert result.worst == (4, psnr(video[4], pictures[4]))
        assert result.psnr_db == pytest.approx((11 * 100 + result.worst[1]) / 12)


def test_the_same_part_of_both(tiny_nvb_two_segments: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb_two_segments) as video:
        reference = Reference(str(save(tmp_path / "%d.png", list(video[:]))))
        result, _ = measure(video, reference, Selection(start=Position(5, "f"), frames=4))
        assert (result.first_frame, result.frames, result.psnr_db) == (5, 4, 100.0)


def test_a_file_made_of_an_excerpt(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        longer = [np.zeros((32, 48, 3), np.uint8)] * 5 + list(video[:])
        path = str(save(tmp_path / "%d.png", longer))
        assert measure(video, Reference(path, start=Position(5, "f")))[0].psnr_db == 100.0
        with pytest.raises(InputError, match=r"17 frames, but .* has 12; .*--frames.*--ref-start"):
            measure(video, Reference(path))
        with pytest.raises(InputError, match="from 8f on: 9 frames, but frame 11 is needed"):
            measure(video, Reference(path, start=Position(8, "f")))
        assert measure(video, Reference(path), Selection(frames=3))[0].frames == 3


def test_a_larger_reference_is_scaled_and_that_is_said(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        big = [f.repeat(2, 0).repeat(2, 1) for f in video[:]]
        result, said = measure(video, Reference(str(save(tmp_path / "%d.png", big))))
    assert len(said) == 1
    assert "scaled from 96x64 to 48x32" in said[0]
    assert 20 < result.psnr_db < 100


def test_a_cut_reference_is_not_scaled(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        wide = [np.pad(f, ((2, 2), (8, 8), (0, 0))) for f in video[:]]
        path = str(save(tmp_path / "%d.png", wide))
        result, said = measure(video, Reference(path, crop=(48, 32)))
        assert (result.psnr_db, said) == (100.0, [])


@pytest.mark.parametrize("crop", ["96x64", "0x32", "8x8+45+0"])
def test_a_crop_that_does_not_fit_is_told_with_the_flag_that_was_typed(call: Call, tiny_nvb: Path, crop: str) -> None:
    assert call(tiny_nvb, "-o", "own.y4m")[0] == 0
    code, _, err = call(tiny_nvb, "-q", "--compare", "own.y4m", "--ref-crop", crop)
    assert (code, err.count("\n")) == (2, 1)
    assert f"--ref-crop {crop.partition('+')[0]}" in err


def test_raw_frames_take_the_size_of_the_file(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        (tmp_path / "own.rgb").write_bytes(video[:].tobytes())
        assert measure(video, Reference(str(tmp_path / "own.rgb")))[0].psnr_db == 100.0
        with pytest.raises(UsageError, match="--ref-crop"):
            measure(video, Reference(str(tmp_path / "own.rgb"), crop=(24, 16)))


def test_a_reference_that_ends_early_is_noticed(tiny_nvb: Path, tmp_path: Path) -> None:
    with open_video(tiny_nvb) as video:
        frames = range(12)
        shorter = open_reference(
            Reference(str(save(tmp_path / "%d.png", list(video[:])))), video, range(5), True, lambda text: None
        )
        with pytest.raises(InputError, match="ends after 5 of 12 frames"):
            compare(video, shorter, frames)


def test_large_frames_have_ms_ssim(tmp_path: Path) -> None:
    info = VideoInfo(176, 164, 2, Fraction(24))
    with open_video(make_nvb(tmp_path / "large.nvb", info=info)) as video:
        noisy = [f ^ np.uint8(15) for f in video[:]]
        result, _ = measure(video, Reference(str(save(tmp_path / "%d.png", noisy))))
    assert 0.5 < (result.ms_ssim or 0) < 1
    assert 0.5 < (result.ms_ssim_y or 0) < 1
    assert result.ms_ssim != result.ms_ssim_y
