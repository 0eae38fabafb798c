"""What was trained is kept, even where it cannot be written where it belongs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from inr_runtime.errors import InrError
from inr_train.checkpoint import Checkpoint, versions
from inr_train.clip import Clip
from inr_train.pruning import sparsity_of
from inr_train.run import Run, Saver, deferred_interrupts
from inr_train.source import describe_source


def finished(run: Run, clip: Clip) -> Checkpoint:
    """The model of a run that has come to its end, with its report."""
    report = dict(run.report)
    ranges = {k: (v[0], v[1]) for k, v in report.pop("ranges", {}).items()}
    final, reference = report.pop("final"), report.pop("float", None)
    compressed = run.masks or run.recipe.rounds
    floats = final if not compressed else reference or {}
    report |= final
    report |= {"psnr_float_db": floats.get("psnr_db"), "psnr_float_8bit_db": floats.get("psnr_8bit_db")}
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
        ranges=ranges,
        graph_digest=run.traced.graph.digest.hex() if run.traced else "",
        recipe=run.recipe.to_dict(),
        report=report,
        source=describe_source(clip),
        seed=run.seed,
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
        check_interrupt()


def keep_state(run: Run, saver: Saver) -> None:
    """Write the resume state of a run that stops here; where that fails, into the system's temporary folder.

    Raises `InrError` that says where it is.
    """
    try:
        saver.save(run, now=True)
    except InrError as error:
        assert saver.path is not None
        kept = _keep_elsewhere(error, saver.path.name, run.save)
        raise InrError(
            f"{error}; the unfinished run is in {kept}: make room, move it to {saver.path}, and go on with "
            "inr-train --resume"
        ) from error


def _written(run: Run, saver: Saver) -> bool:
    try:
        saver.save(run, now=True)
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
