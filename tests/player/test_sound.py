"""Files of sound under every option of `inr-play`."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
from commands import Call
from tiles import make_sound


@pytest.fixture(scope="module")
def sound_nvb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 44.1 kHz in two channels."""
    path = tmp_path_factory.mktemp("nvb") / "sound.nvb"
    make_sound(path, [88_200], rate=44_100, tile=4096)
    return path


@pytest.mark.parametrize(
    ("part", "count"),
    [
        (["--length", "1"], 44_100),
        (["--start", "0.5", "--end", "1.5"], 44_100),
        (["--start", "1.999"], 44),
        (["--length", "0.5", "--rate", "48000"], 24_000),
    ],
)
def test_a_part_of_a_sound_is_as_long_as_was_asked_for(
    call: Call, sound_nvb: Path, tmp_path: Path, part: list[str], count: int
) -> None:
    """Half a millisecond was missing, which is for frames."""
    assert call(sound_nvb, "-o", "part.wav", *part)[0] == 0
    with wave.open(str(tmp_path / "part.wav")) as file:
        assert file.getnframes() == count


def test_engines_are_tried_on_a_sound(call: Call, sound_nvb: Path) -> None:
    """It was refused, since it holds no pictures."""
    code, out, _ = call(sound_nvb, "--backends", "--json")
    assert (code, json.loads(out)[-1]["plays"].endswith("cpu-fp32")) == (0, True)


def test_an_engine_is_prepared_for_a_sound(call: Call, sound_nvb: Path) -> None:
    """It asked for an output, or wrote nothing to nowhere."""
    code, out, err = call(sound_nvb, "--prepare", "--json")
    assert (code, json.loads(out)["target"]) == (0, "cpu-fp32")
    assert json.loads(out)["backend"] in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--profile"], "--profile is for pictures"),
        (["--benchmark"], "--benchmark is for pictures"),
        (["--fps", "25", "--vo", "null"], "--fps is for pictures"),
        (["--prepare", "--size", "3x4"], "--size is for pictures"),
        (["-o", "a.mp4"], "sound is written as WAV"),
        (["-o", "there.wav"], "there.wav exists; add -y"),
    ],
)
def test_what_only_pictures_have_is_refused_before_an_engine_is_opened(
    call: Call, sound_nvb: Path, tmp_path: Path, arguments: list[str], word: str
) -> None:
    (tmp_path / "there.wav").write_bytes(b"precious")
    code, out, err = call(sound_nvb, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err
    assert (tmp_path / "there.wav").read_bytes() == b"precious"
