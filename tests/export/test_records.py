"""Records of benches: what is measured again takes the place of what was; the rest stays and says where it is from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inr_train import excerpt

Row = dict[str, Any]
HERE = "48 frames of 320x180 of bunny_180p.mp4"
GIVEN = {"threads": 1, "device": "cpu"}
Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Write a record of this machine, of commit `aaa`, into a folder of results that is the test's own."""
    import tests.bench.record as module

    monkeypatch.setattr(module, "RESULTS", tmp_path)

    def write(bench: str, protocol: str, rows: list[Row]) -> Path:
        origin = {"versions": {}, "commit": "aaa", "date": "2026-11-01"}
        return module.write_results(bench, protocol, rows, origin=origin)

    return write


def point(model: str, seed: int = 0, threads: int = 1, **more: Any) -> Row:
    figures = {"psnr_float_db": 30.0 + seed, "psnr_db": 29.0, "bytes": 1000, "parameters": 900, "kmac_per_pixel": 5.0}
    run = {"model": model, "recipe": "ours", "minutes": 1.0, "seed": seed, "threads": threads, "cores": threads}
    return {**run, **figures, "epochs": 2.0, "seconds": 66.0, **more}


def test_points_of_other_clips_and_threads_stay_beside_new_ones(record: Record) -> None:
    """Of a point that is measured again none of the seeds of before stays. Rows of before did not say their clip."""
    from tests.bench.time_to_quality.__main__ import with_other_points

    old = [point("edge-5"), point("edge-10", 0), point("edge-10", 1), point("edge-10", threads=2)]
    record("time_to_quality", f"{HERE}; each point a run.", [*old, point("edge-10", clip="another")])
    rows = with_other_points([point("edge-10", clip=HERE, commit="bbb")])
    found = [(r["commit"], r["clip"], r["model"], r["threads"], r["seed"]) for r in rows]
    assert found == [
        ("aaa", HERE, "edge-5", 1, 0),
        ("aaa", HERE, "edge-10", 2, 0),
        ("aaa", "another", "edge-10", 1, 0),
        ("bbb", HERE, "edge-10", 1, 0),
    ]


def test_only_what_was_finished_of_this_clip_device_and_threads_is_recorded(tmp_path: Path) -> None:
    """Everything in the folder was."""
    from tests.bench.time_to_quality.__main__ import with_finished

    stored = {
        "before": point("edge-5"),
        "other": point("edge-10", clip="another"),
        "elsewhere": point("edge-10", clip=HERE, device="cuda"),
        "threads": point("edge-10", threads=2),
        "newer": point("edge-20", clip=HERE, psnr_db=33.0),
        "older": point("edge-20", clip=HERE, psnr_db=32.0),
    }
    for age, (name, row) in enumerate(stored.items()):
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
        os.utime(tmp_path / f"{name}.json", (1e9 - age, 1e9 - age))
    rows = with_finished([point("edge-5", clip=HERE, psnr_db=31.0)], tmp_path, excerpt(), GIVEN)
    assert {r["model"]: r["psnr_db"] for r in rows} == {"edge-5": 31.0, "edge-20": 33.0}
    assert len(with_finished([], tmp_path, excerpt(), {**GIVEN, "threads": 0})) == 3


def test_the_table_and_the_curve_keep_clips_and_threads_apart(tmp_path: Path) -> None:
    from tests.bench.time_to_quality.figures import draw
    from tests.bench.time_to_quality.table import time_table

    rows = [point("edge-5"), point("edge-10"), point("edge-10", threads=2), point("edge-5", clip="another")]
    table = time_table(
        [{"hardware": "H", "cores": 2, "commit": "aaa", "date": "D", "protocol": f"{HERE}; each.", "rows": rows}]
    )
    first, second = table.split("another:")
    assert f"{HERE}:" in first
    assert (first.count("| edge-10 |"), second.count("| edge-5 |")) == (2, 1)
    draw(rows[:3], tmp_path, "", [{"bytes": 500, "psnr_db": 31.0}], 2000.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["time.png", "work.png"]


def variant(model: str, decibels: float, seed: int = 0) -> Row:
    about = {"clip": HERE, "epochs": 8.0, "model": model, "group": "" if model == "edge-10" else "shape", "seed": seed}
    return {**about, "psnr_db": decibels, "parameters": 900, "kmac_per_pixel": 5.0, "step_cpu_ms": 20.0}


def test_a_variant_that_is_tried_again_leaves_its_siblings_where_they_are(record: Record) -> None:
    """They were gone, and the variant became what all were compared with."""
    from tests.bench.edge_search.__main__ import KEYS
    from tests.bench.edge_search.table import edge_table
    from tests.bench.record import with_recorded

    record("edge_search", "One change.", [variant("edge-10", 30.0), variant("deep", 31.0), variant("wide", 29.5)])
    rows = with_recorded("edge_search", [variant("deep", 31.5), variant("deep", 31.7, 1)], KEYS)
    assert [(r["model"], r["seed"]) for r in rows] == [("edge-10", 0), ("deep", 0), ("wide", 0), ("deep", 1)]
    about = {"hardware": "H", "commit": "aaa", "date": "D", "protocol": "One change."}
    table = edge_table([{**about, "rows": rows}])
    assert "| shape | deep | 31.60 dB | +1.60 dB |" in table
    assert "| shape | wide | 29.50 dB | -0.50 dB |" in table
    assert "| shape | deep | 31.60 dB |  |" in edge_table([{**about, "rows": rows[1:]}])


def test_pairs_of_rates_say_their_commits(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.bench.tables as module

    row = {"clip": HERE, "model": "nerv-s", "epochs": 4.0, "adam": 1e-2, "psnr_db": 30.0}
    path = record("rates", "Rates.", [{**row, "muon": 0.01, "commit": "bbb"}, {**row, "muon": 0.02}])
    monkeypatch.setattr(module, "RESULTS", path.parents[1])
    table = module.rates_table()
    assert f"| nerv-s, 4 epochs of {HERE} (commit bbb) | Muon 0.01 | Muon 0.02 |" in table
    assert "| Adam 0.01 | 30.00 dB | 30.00 dB |" in table


def test_figures_that_nobody_can_make_again_are_told_of(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    record("rates", "Rates.", [{"commit": "bbb-dirty"}, {"commit": "ccc"}, {}])
    assert capsys.readouterr().err == "rates: figures of commit bbb-dirty, which nobody can check out\n"


def test_what_is_kept_is_found_by_all_that_it_depends_on(tmp_path: Path) -> None:
    from tests.bench.kept import keep, kept, kept_path

    path = kept_path(tmp_path, "edge-10, ours", {"threads": 1})
    assert kept(path) is None
    keep(path, {"psnr_db": 30.0})
    assert kept(kept_path(tmp_path, "edge-10, ours", {"threads": 1})) == {"psnr_db": 30.0}
    assert kept(kept_path(tmp_path, "edge-10, ours", {"threads": 2})) is None


def test_a_slice_is_measured_anew_where_more_is_asked_for() -> None:
    from tests.bench.decode_speed.kept import enough

    had = {"engines": ["cpu"], "compiled": False, "seconds": 6.0, "model": "abc", "source": "def"}
    known = {"asked": had}
    for less in ({}, {"seconds": 5.0}, {"model": "", "source": ""}):
        assert enough(known, {**had, **less})
    for more in ({"engines": []}, {"engines": ["cpu", "NCHW"]}, {"compiled": True}, {"seconds": 7.0}, {"model": "x"}):
        assert not enough(known, {**had, **more})
    assert enough({}, had), "it is of an older bench"
    assert enough({"asked": {**had, "engines": []}}, had)
