"""Short runs of everything that tries to break the reader, and proof that each would notice."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fuzz import judge as judging
from tests.fuzz.__main__ import main
from tests.fuzz.corpus import FOLDER, make_corpus
from tests.fuzz.judge import ALLOWED, DECODED, EXCEPTION, IDENTICAL, REFUSED, WRONG_PICTURE, judge
from tests.fuzz.mutate import KINDS, mutant
from tests.fuzz.pool import CRASH, HANG, MEMORY, Guard, Job, Result, run_jobs
from tests.fuzz.run import Tally, keep_failures, mutate_and_judge
from tests.fuzz.seeds import seeds

from inr_runtime import backends, chunks, opened
from inr_runtime.errors import FormatError
from inr_runtime.lower import Lowered

ROOT = Path(__file__).parents[2]
HAS_ATHERIS = (sys.platform, platform.machine()) == ("linux", "x86_64") and (3, 11) <= sys.version_info < (3, 14)


def test_mutants_of_every_kind_end_as_the_rule_says() -> None:
    tallies = mutate_and_judge(300, {"seed": 1, "workers": 2})
    assert [result for tally in tallies.values() for result in tally.failures] == []
    assert {kind: tally.files for kind, tally in tallies.items()} == dict.fromkeys(KINDS, 15)
    outcomes = sum((tally.outcomes for tally in tallies.values()), Counter())
    assert outcomes[REFUSED] > 100
    assert min(outcomes[outcome] for outcome in (IDENTICAL, WRONG_PICTURE, DECODED)) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_the_same_whenever_it_is_made(kind: str) -> None:
    first, again, other = mutant(kind, 0, 3), mutant(kind, 0, 3), mutant(kind, 1, 3)
    assert first.data == again.data
    assert first.data != other.data or first.seed is not other.seed
    assert first.remade == KINDS[kind][0]


def test_a_mutation_that_arrives_at_another_good_file_is_compared_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = seeds()[:2]
    monkeypatch.setitem(KINDS, "all of another file", (False, lambda rng: (first, second.data)))
    assert mutant("all of another file", 0, 0).seed is second


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_every_file_of_the_corpus_is_small_and_ends_as_the_rule_says(path: Path) -> None:
    assert path.stat().st_size < 6000
    assert judge(path, None).outcome in ALLOWED[True]


def test_the_corpus_is_what_its_command_makes(tmp_path: Path) -> None:
    """Pictures, and with them thumbnails, may differ by machine, so only names and sizes are compared."""
    made = {path.name: path.stat().st_size for path in make_corpus(tmp_path)}
    kept = {path.name: path.stat().st_size for path in FOLDER.glob("*.nvb")}
    assert made == {name: kept.get(name) for name in made}
    assert sum(kept.values()) < 200_000


def test_every_good_file_is_identical_to_itself(tmp_path: Path) -> None:
    assert len(seeds()) >= 15
    for seed in seeds():
        (tmp_path / "same.nvb").write_bytes(seed.data)
        assert judge(tmp_path / "same.nvb", seed.playback).outcome == IDENTICAL


def test_other_frames_are_not_called_identical(tmp_path: Path) -> None:
    twins = {seed.name: seed for seed in seeds() if seed.name.startswith("twin")}
    path = tmp_path / "twin.nvb"
    path.write_bytes(twins["twin-a"].data)
    verdict = judge(path, twins["twin-b"].playback)
    assert verdict.outcome == DECODED
    assert verdict.outcome not in ALLOWED[False]


def test_frames_shown_before_a_refusal_count(tmp_path: Path) -> None:
    """The first segment is another's, the second is damaged: that is not merely a refused file."""
    twins = {seed.name: seed for seed in seeds() if seed.name.startswith("twin")}
    data = bytearray(twins["twin-a"].data)
    data[twins["twin-a"].index[1].offset + 60] ^= 1
    path = tmp_path / "half.nvb"
    path.write_bytes(data)
    assert judge(path, twins["twin-a"].playback).outcome == REFUSED
    assert judge(path, twins["twin-b"].playback).outcome == DECODED


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("not ours"), EXCEPTION),
        (MemoryError(), EXCEPTION),
        (FormatError("which file?"), "bad message"),
        (FormatError("{path}: two\nlines"), "bad message"),
        (FormatError("{path}: " + "endless " * 200), "bad message"),
        (FormatError("{path}: a reason"), REFUSED),
    ],
)
def test_only_an_error_of_ours_that_names_the_file_in_a_line_is_a_refusal(
    error: Exception, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "any.nvb"

    def fail(*_: object, **__: object) -> None:
        raise type(error)(*(str(a).replace("{path}", str(path)) for a in error.args))

    monkeypatch.setattr(judging, "open_video", fail)
    assert judge(path, None).outcome == outcome


def misbehave(job: Job, seed: int, path: Path) -> tuple[float, str, str, bool]:
    """A judge that meets the worst, by the job's number; every fourth file is harmless."""
    trouble = {1: crash, 2: hang, 3: devour}.get(job.number % 4)
    if trouble is not None:
        trouble()
    return 0.001, REFUSED, "", True


def crash() -> None:
    """As a bug in a C library would."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    """Far longer than a file may take."""
    time.sleep(600)


def devour() -> None:
    """More than a file may take."""
    bytearray(1 << 30)


def test_crashes_hangs_and_greed_are_noticed_and_laid_to_the_right_file(tmp_path: Path) -> None:
    """And the files after them are still judged."""
    results: dict[int, Result] = {}
    guard = Guard(tmp_path, 0, 2, 2.0, 256 << 20, "tests.fuzz.test_fuzz:misbehave")
    run_jobs((Job("bits flipped", n) for n in range(8)), guard, lambda r: results.update({r.job.number: r}))
    expected = [REFUSED, CRASH, HANG, MEMORY] if Path("/proc/self/statm").exists() else [REFUSED, CRASH, HANG, REFUSED]
    assert [results[n].outcome for n in range(8)] == expected * 2
    assert [results[n].allowed for n in range(4)] == [outcome == REFUSED for outcome in expected]
    assert results[1].detail == "killed by SIGSEGV"


def test_a_reader_that_forgot_a_check_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the header's hash, ranges of another file would play, with other colours and no error."""
    monkeypatch.setattr("inr_runtime.format.hash_header", lambda parts: b"")
    monkeypatch.setattr(
        "inr_runtime.format.decode_index", lambda payload, limits: (chunks.decode_index(payload, limits)[0], b"")
    )
    caught = 0
    for number in range(150):
        made = mutant("chunks of another file", 0, number)
        (tmp_path / "mutant.nvb").write_bytes(made.data)
        caught += judge(tmp_path / "mutant.nvb", made.seed.playback).outcome not in ALLOWED[False]
    assert caught > 0


def test_what_fails_is_kept_with_instructions(tmp_path: Path) -> None:
    result = Result(Job("bits flipped", 7), CRASH, "killed by SIGSEGV")
    tally = Tally()
    tally.add(result)
    assert keep_failures({"bits flipped": tally}, 5, tmp_path / "bad") == 1
    assert (tmp_path / "bad" / "bits-flipped-5-7.nvb").read_bytes() == mutant("bits flipped", 5, 7).data
    assert "tests.fuzz.judge" in (tmp_path / "bad" / "README.txt").read_text()
    assert "killed by SIGSEGV" in (tmp_path / "bad" / "failures.txt").read_text()
    assert keep_failures({"bits flipped": Tally()}, 5, tmp_path / "good") == 0


def test_the_command_prints_a_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--count", "20", "--jobs", "1", "--failures", str(tmp_path / "bad")])
    assert done.exit_code == 0, done.output
    assert "20 mutants in" in done.output
    assert not (tmp_path / "bad").exists()


def run_target(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.target", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has wheels for CPython 3.11 to 3.13 on Linux, x86-64")
def test_a_fuzzer_guided_by_coverage_finds_nothing() -> None:
    before = sorted(path.name for path in FOLDER.iterdir())
    done = run_target(FOLDER.relative_to(ROOT), "-runs=2500", "-seed=1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 2500 runs" in done.stderr
    assert int(re.findall(r"cov: (\d+)", done.stderr)[-1]) > 500  # it looked into the reader
    assert sorted(path.name for path in FOLDER.iterdir()) == before


@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has wheels for CPython 3.11 to 3.13 on Linux, x86-64")
def test_the_fuzzers_rule_can_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import target

    seed = seeds()[0]
    target.run_one(seed.data)
    damaged = bytearray(seed.data)
    damaged[20] ^= 1
    assert target.checksums_are_right(seed.data)
    assert not target.checksums_are_right(bytes(damaged))
    monkeypatch.setattr(target, "checksums_are_right", lambda data: False)
    with pytest.raises(AssertionError, match="it plays although"):
        target.run_one(seed.data)

    def broken(lowered: Lowered, name: str, threads: int) -> backends.Backend:
        raise ZeroDivisionError("in an engine")

    monkeypatch.setattr(opened, "open_backend", broken)
    with pytest.raises(AssertionError, match="other exception: ZeroDivisionError"):
        target.run_one(seed.data)
