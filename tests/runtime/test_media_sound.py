"""Sound of any number of channels is read as it is."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from inr_runtime.errors import MediaError, UsageError
from inr_runtime.media import parse_position
from inr_runtime.media.sound import read_sound


def save(path: Path, channels: int) -> np.ndarray:
    """Write 100 samples of a different ramp in each channel; returns them, int16 (100, channels)."""
    samples = (np.arange(100)[:, None] * 10 + np.arange(channels) * 1000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return samples


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_channel_is_read(tmp_path: Path, channels: int) -> None:
    wanted = save(tmp_path / "a.wav", channels)
    samples, rate = read_sound(tmp_path / "a.wav")
    assert (rate, samples.dtype, samples.flags.c_contiguous) == (8000, np.float32, True)
    assert np.array_equal(samples * 32768, wanted)


def test_more_than_8_channels_do_not_end_the_process(tmp_path: Path) -> None:
    wanted = save(tmp_path / "a.wav", 12)
    code = (
        "import sys, numpy as np; from inr_runtime.media.sound import read_sound\n"
        "np.save(sys.argv[2], read_sound(sys.argv[1])[0])"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.wav"), str(tmp_path / "a.npy")], check=True)
    assert np.array_equal(np.load(tmp_path / "a.npy") * 32768, wanted)


def test_a_sound_without_samples_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", 2)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:44])
    with pytest.raises(MediaError, match=r"a\.wav: "):
        read_sound(tmp_path / "a.wav")


def test_a_part_begins_and_ends_at_the_nearest_sample(tmp_path: Path) -> None:
    wanted = save(tmp_path / "a.wav", 1)
    # 0.0011 s are 8.8 samples, and 0.0012 s, which no binary number is, 9.6.
    for start, end, first, last in (("0.0011", "0.0012", 9, 10), ("7f", "50%", 7, 50), ("0.0099", "1", 79, 100)):
        samples, _ = read_sound(tmp_path / "a.wav", parse_position(start), parse_position(end))
        assert np.array_equal(samples * 32768, wanted[first:last])
    with pytest.raises(UsageError, match="100 samples"):
        read_sound(tmp_path / "a.wav", parse_position("1"))
