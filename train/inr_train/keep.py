"""What was trained is kept, even where it cannot be written where it belongs."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from inr_runtime.errors import InrError
from inr_train.checkpoint import Checkpoint, versions
from inr_train.clip import Clip
from inr_train.memory import ran_out, way_out
from inr_train.pruning import sparsity_of
from inr_train.recipe import with_goal
from inr_train.run import Run, Saver, deferred_interrupts
from inr_train.source import describe_source
from inr_train.start import best_path


class DivergedError(InrError):
    """Training went astray however often it went back."""


def finished(run: Run, clip: Clip) -> Checkpoint:
    """The model of a run that has come to its end, with its report."""
    report = dict(run.report)
    ranges = {k: (v[0], v[1]) for k, v in report.pop("ranges", {}).items()}
    final, reference = report.pop("final"), report.pop("float", None)
    items = run.model.count_items((len(clip), 3, clip.info.height, clip.info.width))
    needless = report.pop("skipped_steps", 0) / run.recipe.steps(items)
    compressed = run.masks or run.recipe.rounds
    floats = final if not compressed else reference or {}
    report |= final
    report |= {"psnr_float_db": floats.get("psnr_db"), "psnr_float_8bit_db": floats.get("psnr_8bit_db")}
    report |= {"epochs": run.recipe.epochs * (1 - needless)}
    report |= {"evaluated_frames": len(range(0, len(clip), run.recipe.every))}
    report |= {"sparsity": sparsity_of(run.model) if run.masks else 0.0}
    report |= {"train_seconds": run.elapsed, "device": str(run.device), "curve": run.rows}
    return Checkpoint(
        model=run.name,
        config=run.config,
        info=replace(clip.info, frame_count=len(clip)),
        weights={k: v.detach().cpu().contiguous() for k, v in run.model.state_dict().items()},
        weight_bits=run.recipe.weight_bits,
        bias_bits=run.recipe.bias_bits,
        float_bits=run.recipe.float_bits,
        grid_bits=run.recipe.grid_bits,
        ranges=ranges,
        graph_digest=run.traced.graph.digest.hex() if run.traced else "",
        recipe=run.recipe.to_dict(),
        report=report,
        source=describe_source(clip),
        seed=report["race"][0]["seed"] if report.get("race") else run.seed,
        versions=versions(),
    )


def keep_model(checkpoint: Checkpoint, path: Path, run: Run, saver: Saver) -> None:
    """Write the finished model to `path` and remove its resume state; Ctrl-C waits until that is done.

    Where that fails the run is kept in the resume state, and where that fails too, the model in the system's temporary
    folder. Raises `InrError` that says where it is.
    """
    with deferred_interrupts() as check_interrupt:
        try:
            checkpoint.save(path)
        except InrError as error:
            if _written(run, saver):
                raise InrError(
                    f"{error}; the finished run is in {saver.path}: make room and go on with inr-train --resume"
                ) from error
            kept = _keep_elsewhere(error, path.name, checkpoint.save)
            raise InrError(f"{error}; the model is in {kept}: make room and move it to {path}") from error
        if saver.path is not None:
            with suppress(OSError):
                saver.path.unlink(missing_ok=True)
                best_path(path).unlink(missing_ok=True)
        check_interrupt()


def keep_state(run: Run, saver: Saver) -> None:
    """Write the resume state of a run that stops here; where that fails, into the system's temporary folder.

    Raises `InrError` that says where it is.
    """
    try:
        saver.write(run)
    except InrError as error:
        assert saver.path is not None
        kept = _keep_elsewhere(error, saver.path.name, run.save)
        raise InrError(
            f"{error}; the unfinished run is in {kept}: make room, move it to {saver.path}, and go on with "
            "inr-train --resume"
        ) from error


@contextmanager
def kept_where_it_fails(run: Run, clip: Clip, path: Path | None, saver: Saver) -> Iterator[None]:
    """Keep what a run has reached that goes astray or runs out of memory: its last good state, and its best model.

    path: where the finished model was to be; nothing is kept without it. Raises `InrError` that says in a line what
    happened, what to do, and what is kept where.
    """
    try:
        yield
    except (DivergedError, MemoryError, RuntimeError) as error:
        diverged = isinstance(error, DivergedError)
        if not diverged and not ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the memory that is missing
        cause = str(error) if diverged else way_out(run.device)
        if path is None:
            raise InrError(cause) from error
        state = _attempt(lambda: _keep_good(run, saver, diverged))
        best = _attempt(lambda: _keep_best(run, clip, path, cause))
        raise InrError("; ".join(filter(None, (cause, best, state)))) from error


def _attempt(keep: Callable[[], str]) -> str:
    """What `keep` says that it kept, or why it could not."""
    try:
        return keep()
    except InrError as error:
        return str(error)
    except (MemoryError, RuntimeError):
        return "not all that was trained could be kept"


def _keep_good(run: Run, saver: Saver, diverged: bool) -> str:
    """Write the last good state; a state that is there was good too, but for a run that went astray."""
    assert saver.path is not None
    if run.good and (diverged or not saver.path.exists()):
        run.save(saver.path, good=True)
    if not saver.path.exists():
        return ""
    how = ", at half the learning rate" if diverged else ""
    return f"the unfinished run is in {saver.path}: inr-train --resume goes on from its last good step{how}"


def _keep_best(run: Run, clip: Clip, path: Path, cause: str) -> str:
    """Write the model of the best evaluation so far, whose recipe and report are those of what it is; may be none."""
    if not run.best:
        return ""
    quality, ranges = run.best["quality"], run.best["ranges"]
    if run.recipe.phases[run.best["phase"]].quantize == "none":
        run.recipe = with_goal(run.recipe, "none")
    run.model.cpu().load_state_dict(run.best["weights"])
    run.model.settle(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))
    run.masks = run.masks if sparsity_of(run.model) else {}
    run.report |= {"final": quality, "ranges": ranges, "failure": cause}
    finished(run, clip).save(best_path(path))
    return f"the best model so far, {quality['psnr_db']:.2f} dB, is in {best_path(path)}: inr-export takes it"


def _written(run: Run, saver: Saver) -> bool:
    try:
        saver.write(run)
    except InrError:
        return False
    return saver.path is not None


def _keep_elsewhere(error: InrError, name: str, write: Callable[[Path], None]) -> Path:
    """Where `write` has put a file called `name` in the system's temporary folder; raises `InrError`."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="inr-"))
    except OSError as second:
        raise InrError(f"{error}; the system's temporary folder cannot be written either") from second
    try:
        write(folder / name)
    except BaseException as second:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(second, InrError):
            raise InrError(f"{error}; {second}") from error
        raise
    return folder / name
