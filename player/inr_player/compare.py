"""How close a .nvb file is to the video that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from inr_player.reference import Reference
from inr_player.selection import timeline_of
from inr_runtime.decoder import Decoder
from inr_runtime.errors import InputError, UsageError
from inr_runtime.frame import Frame
from inr_runtime.media import MediaReader, Position, ReadOptions, open_media
from inr_runtime.media.geometry import Pixels
from inr_runtime.metrics import luma, ms_ssim, psnr, psnr_yuv611

_HEADERLESS = (".yuv", ".rgb")


@dataclass(frozen=True)
class Comparison:
    """What `inr-play --compare REF --json` prints; means over frames, all in 8-bit RGB unless the name says otherwise.

    psnr_db equals psnr_8bit_db, since decoded frames have 8 bits. psnr_yuv_db: 6:1:1 of 4:2:0 planes.
    ms_ssim, ms_ssim_y: null where a side has 160 pixels or less. first_frame: where the comparison began.
    """

    psnr_db: float
    psnr_8bit_db: float
    psnr_yuv_db: float
    ms_ssim: float | None
    ms_ssim_y: float | None
    per_frame_psnr_db: tuple[float, ...]
    bytes: int
    bits_per_pixel: float
    first_frame: int
    frames: int
    backend: str

    @property
    def worst(self) -> tuple[int, float]:
        """The number of the frame with the lowest PSNR, and that PSNR in dB."""
        lowest = min(self.per_frame_psnr_db)
        return self.first_frame + self.per_frame_psnr_db.index(lowest), lowest


@dataclass(frozen=True)
class _Scores:
    psnr: float
    psnr_yuv: float
    ms_ssim: float | None
    ms_ssim_y: float | None


def open_reference(
    reference: Reference, decoder: Decoder, frames: range, bounded: bool, say: Callable[[str], None]
) -> MediaReader:
    """The reference's pictures of `frames`, in the size of the file; scaling is told through `say`.

    bounded: whether the reference may go on after the last of `frames`. Raises `InputError` where it cannot be read or
    has another number of frames.
    """
    info, size = decoder.info, (decoder.info.width, decoder.info.height)
    headerless = Path(reference.path).suffix.lower() in _HEADERLESS
    with _naming_the_crop():
        options = ReadOptions(crop=reference.crop, size=size if headerless else None)
        whole = open_media(reference.path, options)
    first = timeline_of(whole.info).index_of(reference.start) if reference.start else 0
    count = whole.info.frame_count - first
    if count < frames.stop or not (bounded or count == info.frame_count):
        raise InputError(_mismatch(reference, decoder, count, frames))
    if (found := (whole.info.width, whole.info.height)) != size:
        if headerless:
            raise UsageError(f"{reference.path}: --ref-crop does not fit a file without a header")
        say(f"{reference.path}: scaled from {found[0]}x{found[1]} to {size[0]}x{size[1]} for the comparison")
    start = Position(first + frames.start, "f")
    return open_media(reference.path, replace(options, size=size, start=start, frames=len(frames)))


@contextmanager
def _naming_the_crop() -> Iterator[None]:
    """What is wrong with a crop is told with the flag that was typed."""
    try:
        yield
    except UsageError as error:
        raise UsageError(str(error).replace("--crop", "--ref-crop", 1)) from error


def _mismatch(reference: Reference, decoder: Decoder, count: int, frames: range) -> str:
    path, file = reference.path, decoder.reader.path
    if reference.start:
        path = f"{path} from {reference.start} on"
    if count < frames.stop:
        return f"{path}: {max(count, 0)} frames, but frame {frames.stop - 1} is needed; compare fewer with --frames"
    return (
        f"{path}: {count} frames, but {file} has {len(decoder)}; give the number of frames with --frames, and "
        "--ref-start where the file begins later than the reference"
    )


def compare(
    decoder: Decoder, reference: MediaReader, frames: range, progress: Callable[[int], None] | None = None
) -> Comparison:
    """Decode `frames` and score each against the reference's picture of the same place.

    reference: from `open_reference`. Raises `InputError` where it ends early.
    """
    scores = []
    for frame, picture in zip(decoder.frames(frames.start, frames.stop), reference, strict=False):
        scores.append(_score(frame, picture))
        if progress:
            progress(len(scores))
    if len(scores) < len(frames):
        raise InputError(f"{reference.path}: ends after {len(scores)} of {len(frames)} frames; it is damaged")
    psnr_db = fmean(s.psnr for s in scores)
    return Comparison(
        psnr_db=psnr_db,
        psnr_8bit_db=psnr_db,
        psnr_yuv_db=fmean(s.psnr_yuv for s in scores),
        ms_ssim=_mean_or_none([s.ms_ssim for s in scores]),
        ms_ssim_y=_mean_or_none([s.ms_ssim_y for s in scores]),
        per_frame_psnr_db=tuple(s.psnr for s in scores),
        bytes=decoder.reader.size,
        bits_per_pixel=decoder.reader.bits_per_pixel,
        first_frame=frames.start,
        frames=len(frames),
        backend=decoder.backend,
    )


def _score(frame: Frame, picture: Pixels) -> _Scores:
    pixels, matrix = frame.pixels, frame.matrix
    return _Scores(
        psnr(pixels, picture),
        psnr_yuv611(pixels, picture, matrix),
        ms_ssim(pixels, picture),
        ms_ssim(luma(pixels, matrix), luma(picture, matrix)),
    )


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
