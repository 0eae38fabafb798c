"""The papers' tables: rows that resume, notice their own changes, and average over a dataset; and the notebook runs."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import write_video
from click.testing import CliRunner

from inr_runtime.media import ReadOptions
from inr_train import Clip
from inr_train.clip import EXCERPT

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def run(*arguments: object) -> tuple[int, str]:
    """The command, with its exit code and what it printed."""
    from tests.bench.paper_tables.__main__ import main

    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    return done.exit_code, done.output


SMALL = {"channels": 8, "strides": (2, 2), "depths": (1, 1), "expansions": (1, 1), "base_frames": 4}


def test_a_dataset_is_run_sequence_by_sequence_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.paper_tables.__main__ as program
    from tests.bench.paper_tables.datasets import UVG
    from tests.bench.paper_tables.table import _mean

    row = replace(UVG[0], epochs=2, config=SMALL, recipe={"loss": "l1"}, quantize="none")
    monkeypatch.setattr(program, "ROWS", (row,))
    root, work = tmp_path / "uvg", tmp_path / "work"
    clip = Clip.read(EXCERPT, ReadOptions(size=(48, 32), frames=4))
    (root / "Bosphorus").mkdir(parents=True)
    write_video(root / "Bosphorus" / "%02d.png", clip.info, clip.frames)
    raw = np.random.default_rng(0).integers(16, 235, (4, 32 * 48 * 3 // 2), np.uint8)
    raw.tofile(root / "Jockey_48x32_120fps_420_8bit_YUV.yuv")
    (root / "readme.txt").write_text("not a video")
    command = ("--dataset", "uvg", "--root", root, "--work", work, "--threads", 1, "--device", "cpu")
    assert run(*command, "--minutes", 0)[0] == 75
    code, said = run(*command)
    assert code == 0
    assert "Bosphorus" in said
    found = [json.loads(p.read_text()) for p in sorted(work.glob("*.json"))]
    assert [r["sequence"] for r in found] == ["Bosphorus", "Jockey_48x32_120fps_420_8bit_YUV"]
    assert all(r["bits_per_pixel"] > 0 and r["decode_fps"] > 0 for r in found)
    mean, rate = (np.mean([r[key] for r in found]) for key in ("psnr_db", "bits_per_pixel"))
    assert _mean(found) == f"{mean:.2f} dB at {rate:.4f} bpp (mean of 2 sequences)"

    monkeypatch.setattr(program, "ROWS", (replace(row, published=40.0),))
    code, said = run(*command, "--minutes", 0)
    assert (code, said.count("40.00")) == (0, 2), (
        "what is finished is only read, and stands beside what is published now"
    )
    monkeypatch.setattr(program, "ROWS", (replace(row, config={**SMALL, "upscale": "nearest"}),))
    assert run(*command, "--minutes", 0)[0] == 75, "the model of another config is not believed"


def test_integers_are_made_of_the_float_rows_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.paper_tables.__main__ as program
    from tests.bench.paper_tables.row import Row, Tuning

    clip = Clip.read(EXCERPT, ReadOptions(size=(48, 32), frames=4))
    write_video(tmp_path / "clip" / "%02d.png", clip.info, clip.frames)
    base = Row("quant_noise", "float", "hinerv-uvg-s", None, "", epochs=10, config=SMALL, recipe={"loss": "l1"})
    rounded, noise = (replace(base, name=f"3 bits {n}", tuning=Tuning(base, 3, n)) for n in (0.0, 0.9))
    monkeypatch.setattr(program, "ROWS", (noise, rounded, base))
    assert run("--video", tmp_path / "clip", "--work", tmp_path, "--threads", 1, "--device", "cpu")[0] == 0
    found = {r["row"]: r for r in (json.loads(p.read_text()) for p in tmp_path.glob("*.json"))}
    assert [found[r.name]["epochs"] for r in (base, rounded, noise)] == [10, 10, 1]
    assert found[noise.name]["weight_bits"] == found[rounded.name]["weight_bits"] == 3
    assert len({r["psnr_db"] for r in found.values()}) == 3


def test_rows_of_datasets_prune_and_quantize_as_hinerv_does(tmp_path: Path) -> None:
    from tests.bench.paper_tables.datasets import MCL, UVG
    from tests.bench.paper_tables.run import Protocol, recipe_of

    for row in (*UVG, *MCL):
        recipe = recipe_of(row, Protocol(lambda: pytest.fail("not read"), False, "cuda", 1, tmp_path))
        spans = [end - begin for begin, end in recipe.spans(600)]
        assert spans == [300 * 600, 60 * 600, 30 * 600]
        assert (recipe.weight_bits, recipe.phases[-1].noise, recipe.phases[-1].sparsity) == (6, 0.9, 0.15)


def test_a_folder_without_sequences_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no video")
    code, said = run("--dataset", "uvg", "--root", tmp_path, "--table", "uvg", "--work", tmp_path / "work")
    assert code == 1
    assert "neither videos" in said
    assert "needs --dataset mcl" in run("--table", "mcl", "--work", tmp_path / "work")[1]


def test_sub_pixel_convolutions_have_the_size_of_their_default() -> None:
    from tests.bench.paper_tables.rows import HINERV_ABLATIONS

    from inr_train.models import count_parameters, meta_model
    from inr_train.presets import preset_named

    for shape, preset, small in (((1080, 1920, 600), "hinerv-uvg-s", False), ((90, 160, 24), "hinerv-bunny-xxs", True)):
        default, *changed = (
            count_parameters(meta_model("hinerv", replace(preset_named(preset).config(*shape), **fields)))
            for row in HINERV_ABLATIONS[:3]
            for fields in [{**row.config, **(row.reduced_config if small else {})}]
        )
        assert all(abs(count / default - 1) < 0.1 for count in changed), (default, changed)


def test_upscaling_is_measured_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.paper_tables.__main__ as program
    import tests.bench.record
    from tests.bench.paper_tables.table import paper_tables

    rows = program.measure_upscaling(rounds=1, sizes=[(160, 90)])
    assert [r["row"] for r in rows] == ["pixel_shuffle", "transposed", "bilinear"]
    assert all(r["ms"] > 0 for r in rows)
    assert rows[0]["ms_ratio"] == 1
    assert rows[2]["gmac_per_frame"] > rows[0]["gmac_per_frame"] > rows[1]["gmac_per_frame"]
    monkeypatch.setattr(program, "measure_upscaling", lambda: rows)
    monkeypatch.setattr(tests.bench.record, "RESULTS", tmp_path)
    assert run("--reduced", "--table", "upscaling_speed", "--record", "--work", tmp_path)[0] == 0
    (record,) = tmp_path.glob("paper_tables/*.json")
    assert f"| bilinear | 160x90 | {rows[2]['parameters']:,} |" in paper_tables([json.loads(record.read_text())])


TINY = {"SIZE": (64, 32), "FRAMES": 5, "EPOCHS": 1, "SPARSITIES": (0.4,), "BITS": (4,)}


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", i) for i in ids)
    assert all(
        set(c) == {"cell_type", "id", "metadata", "source"} for c in notebook["cells"] if c["cell_type"] != "code"
    )
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in cells)
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "tests/bench/results/paper_tables", tmp_path / "tests/bench/results/paper_tables")
    monkeypatch.chdir(tmp_path / "docs")
    names: dict[str, Any] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(TINY) <= set(names)
            names.update(TINY)
    assert (tmp_path / "docs" / "tour" / "nerv.nvb").stat().st_size == names["report"].bytes
    assert names["decoded"].shape == (5, 32, 64, 3)
    assert len(names["score"]) >= 5
