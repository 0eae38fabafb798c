"""Exit codes that never lie, words on stderr, data on stdout, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from builders import INFO, make_nvb
from commands import Call, inr_play, start_play

from inr_runtime.format import NvbReader


@pytest.fixture(scope="module")
def long_nvb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hours of video, so that whatever is asked is still going on a moment later."""
    return make_nvb(tmp_path_factory.mktemp("nvb") / "long.nvb", info=replace(INFO, frame_count=500_000))


@pytest.fixture(scope="module")
def damaged_nvb(tiny_nvb_two_segments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose second segment has one wrong bit."""
    with NvbReader(tiny_nvb_two_segments) as reader:
        place = reader.index[1].offset + 100
    data = bytearray(tiny_nvb_two_segments.read_bytes())
    data[place] ^= 1
    path = tmp_path_factory.mktemp("nvb") / "damaged.nvb"
    path.write_bytes(data)
    return path


def test_without_a_window_the_ways_out_are_named(tiny_nvb: Path) -> None:
    done = inr_play(tiny_nvb)
    assert (done.returncode, done.stdout) == (1, b"")
    for way in (b"-o out.mp4", b"--vo null", b"-o - | mpv -"):
        assert way in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_an_output_that_exists_is_kept(call: Call, tiny_nvb: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.y4m"
    target.write_bytes(b"precious")
    done = inr_play(tiny_nvb, "-o", target)
    assert done.returncode == 2
    assert b"add -y" in done.stderr
    assert target.read_bytes() == b"precious"
    assert call(tiny_nvb, "-o", target, "-y")[0] == 0
    assert target.read_bytes().startswith(b"YUV4MPEG2")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--info", "--benchmark"], "--info and --benchmark"),
        (["--benchmark", "-o", "out.mp4"], "--benchmark and -o"),
        (["-o", "-", "--json"], "stdout"),
        (["-f", "raw"], "add -o"),
        (["--ref-crop", "10x10"], "add --compare"),
        (["-o", "out.avi"], "cannot tell the format"),
        (["--vo", "null", "--start", "yesterday"], "'--start': 'yesterday' is not a time"),
        (["--vo", "null", "--target", "gpu"], "'gpu' is not one of 'auto'"),
        (["--vo", "null", "-o", "a.y4m"], "give one of them"),
        (["--vo", "null", "--start", "12f"], "beyond the end"),
        (["--sound"], "No such option"),
        (["--vo", "null", "--threads", "3000000000"], "'--threads': 3000000000 is not in the range"),
        (["--info", "--start", "1", "--target", "cpu-fp32"], "holds; leave out --start and --target"),
        (["--prepare", "--frames", "2"], "--prepare builds the engine for the whole file; leave out --frames"),
        (["--prepare", "--fps", "50"], "--fps is for playing"),
        (["--profile", "--length", "1"], "in its own size; leave out --length"),
        (["--profile", "--size", "96x64"], "in its own size; leave out --size"),
        (["--backends", "--end", "1"], "--backends tries every engine; leave out --end"),
        (["--backends", "--backend", "cpu"], "leave out --backend"),
        (["--backends", "-o", "out.mp4"], "--backends and -o are different things to do"),
        (["--benchmark", "--rate", "8000"], "--benchmark is for pictures; leave out --rate"),
    ],
)
def test_wrong_usage_is_2(call: Call, tiny_nvb: Path, tmp_path: Path, arguments: list[str], word: str) -> None:
    code, out, err = call(tiny_nvb, *arguments)
    assert (code, out) == (2, "")
    assert word in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["there.mp4", "there.y4m", "%d.png", "out.avi", "gone/out.mkv"])
def test_what_cannot_be_written_is_refused_before_an_engine_is_opened(
    call: Call, tiny_nvb: Path, tmp_path: Path, output: str
) -> None:
    """Building one may take minutes."""
    for name in ("there.mp4", "there.y4m", "3.png"):
        (tmp_path / name).write_bytes(b"precious")
    code, _, err = call(tiny_nvb, "-o", output)
    assert (code, err.count("\n")) == (2, 1), "no line names an engine"
    assert {p.read_bytes() for p in tmp_path.iterdir()} == {b"precious"}


def test_a_missing_file_name_is_wrong_usage(call: Call) -> None:
    code, _, err = call()
    assert code == 2
    assert "inr-play FILE.nvb" in err


def break_it(data: bytes, how: str) -> bytes:
    return {"not a .nvb file": b"RIFF" + data, "is newer than": data[:8] + b"\x09" + data[9:], "cut off": data[:-100]}[
        how
    ]


@pytest.mark.parametrize("how", ["not a .nvb file", "is newer than", "cut off", "No such file"])
def test_a_broken_file_is_3_and_named(call: Call, tiny_nvb: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / "broken.nvb"
    if how != "No such file":
        path.write_bytes(break_it(tiny_nvb.read_bytes(), how))
    code, out, err = call(path)
    assert (code, out) == (3, "")
    assert str(path) in err
    assert how in err
    assert err.count("\n") == 1


def test_what_is_above_a_limit_is_3_and_the_advice_is_true(call: Call, tmp_path: Path) -> None:
    """It named `Limits(...)` to people who had typed a command, as if that took it."""
    path = make_nvb(tmp_path / "endless.nvb", info=replace(INFO, frame_count=2_000_000))
    code, out, err = call(path, "--vo", "null")
    assert (code, out) == (3, "")
    assert f"{path}: INFO: 2000000 is above the limit of 1000000 (frames)" in err
    assert err.endswith(", which no command raises; from Python, Limits(frames=...) does\n")
    assert err.count("\n") == 1


def test_damage_in_the_middle_leaves_no_half_video(damaged_nvb: Path, tmp_path: Path) -> None:
    done = inr_play(damaged_nvb, "-o", tmp_path / "out.mp4")
    assert done.returncode == 3
    assert f"{damaged_nvb}: segment 1: " in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_verbose_shows_where_it_failed(tiny_nvb: Path) -> None:
    done = inr_play(tiny_nvb, "-v")
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


def test_without_an_engine_the_way_to_one_is_named(tiny_nvb: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ModuleNotFoundError('not here', name='onnxruntime')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = inr_play(tiny_nvb, "--vo", "null", env=environment)
    assert done.returncode == 1
    assert b"pip install 'inr-video[cpu]'" in done.stderr
    assert inr_play(tiny_nvb, "--info", env=environment).returncode == 0
    assert b"not installed" in inr_play("--list-backends", env=environment).stdout


@pytest.mark.parametrize("arguments", [["-o", "-"], ["-o", "-", "-f", "raw"]])
def test_a_reader_that_goes_away_ends_it_in_silence(long_nvb: Path, arguments: list[str]) -> None:
    with start_play(long_nvb, "-q", *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10_000)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_tables_for_a_reader_that_is_gone_end_in_silence(tiny_nvb: Path) -> None:
    with start_play(tiny_nvb, "--info") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("name", ["out.mp4", "out.y4m", "frames/%05d.png"])
def test_ctrl_c_leaves_nothing_behind(long_nvb: Path, tmp_path: Path, name: str) -> None:
    with start_play(long_nvb, "-o", tmp_path / name) as process:
        assert process.stderr is not None
        assert b"cpu-int8" in process.stderr.readline()
        while not any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        words = process.stderr.read()
    assert process.returncode == 130
    *progress, last = words.strip().splitlines()
    assert last == b"inr-play: interrupted"
    assert all(line.startswith(b"inr-play frame ") for line in progress)  # of a busy machine
    assert list(tmp_path.iterdir()) == []


def test_playing_never_imports_torch(tiny_nvb: Path) -> None:
    code = (
        "import sys, inr_player.cli; from inr_runtime import open_video\n"
        "assert open_video(sys.argv[1])[0].shape == (32, 48, 3)\n"
        "bad = {'torch', 'inr_train', 'inr_export', 'onnxsim', 'onnxscript'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_nvb)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_and_version(call: Call) -> None:
    assert "inr-play clip.nvb -o clip.mp4" in call("-h")[1]
    assert call("--version")[1].startswith("inr-play, version ")
