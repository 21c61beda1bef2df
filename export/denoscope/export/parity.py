"""Write a bundle in a lower precision, with what that costs measured first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.export.errors import PrecisionRefused
from denoscope.export.precision import PRECISIONS, lower
from denoscope.export.reference import TorchReference
from denoscope.runtime import (
    Backend,
    Bundle,
    BundleManifest,
    FrameMeta,
    Intensity,
    InvalidInput,
    QualityRecord,
    Stream,
    calibrate_stream,
    write_bundle,
)
from denoscope.runtime.words import either
from denoscope.train import CameraSettings, SceneSettings, simulate

__all__ = ["LOSS_LIMIT_DB", "ParityRow", "export_precision"]

LOSS_LIMIT_DB = {name: precision.limit_db for name, precision in PRECISIONS.items()}
_BACKEND = "onnxruntime-cpu"
_SCENE = SceneSettings(frames=72, height=96, width=96)
_PHOTONS = (0.3, 1.5, 30.0)  # dark, usual, bright: rounding shows most where there is little noise
_SEED = 2_000_000_101  # nothing is trained on it
_FRAMES, _EDGE = 96, 128  # of a real movie: what is looked at

Frames = npt.NDArray[Any]


@dataclass(frozen=True)
class ParityRow:
    """Loss by a precision on one movie.

    Attributes
    ----------
    movie
        What it was.
    reference_db, lower_db
        PSNR against the truth, peak = clean maximum - minimum, of torch in float32 and of the new graphs.
    max_error, rms_error
        Difference of the two outputs, in units of the noise at the movie's median.
    """

    movie: str
    reference_db: float
    lower_db: float
    max_error: float
    rms_error: float

    @property
    def lost_db(self) -> float:
        """By how much the lower precision is worse; below zero if it is better by chance."""
        return self.reference_db - self.lower_db


def export_precision(
    bundle: Bundle,
    folder: Path,
    precision: str = "fp16",
    *,
    movie: Frames | None = None,
    movie_name: str = "the movie given",
    force: bool = False,
    on_movie: Callable[[ParityRow], None] | None = None,
) -> tuple[Bundle, list[ParityRow]]:
    """Write a copy of a float32 bundle in another precision if it loses little enough against torch.

    What is measured has the same rounding as what is written, computed in float32 where a processor has no
    arithmetic of that precision (see `rounded_like_half`).

    Parameters
    ----------
    bundle
        A float32 bundle.
    folder
        Where to write, `NAME.denoscope`.
    precision
        `fp32`, `fp16`, `bf16` or `int8`.
    movie
        A real movie (T, H, W), which gives `int8` its ranges. The loss is measured on it too: denoised by
        torch, it is the truth of a movie that gets its camera's noise once more. Its centre is looked at.
    movie_name
        What to call it.
    force
        Write it even if it loses more than `LOSS_LIMIT_DB`.
    on_movie
        Called with each measurement.

    Returns
    -------
    written, rows
        The new bundle; its card and quality records hold the measurements too.

    Raises
    ------
    InvalidInput
        If the precision is unknown, the bundle is in a lower precision already, or int8 has no movie.
    PrecisionRefused
        If it loses too much; the message gives the number.
    """
    if precision not in PRECISIONS:
        raise InvalidInput(f"`precision` {precision} is unknown: choose {either(PRECISIONS)}.")
    cut = None if movie is None else _centre(movie)
    lowered = lower(bundle, precision, cut)
    emulated = Bundle(bundle.folder, bundle.manifest, lowered.emulated)
    torch = TorchReference(bundle)
    rows = []

    def measure(noisy: Frames, clean: Frames, name: str) -> None:
        rows.append(_compare(torch, bundle, emulated, noisy, clean, name))
        if on_movie is not None:
            on_movie(rows[-1])

    if cut is not None:
        measure(*_noisy_again(torch, bundle, cut), f"{movie_name}, denoised, with its camera's noise again")
    for photons in _PHOTONS:
        simulated = simulate(_SCENE, CameraSettings(photons=photons), seed=_SEED)
        measure(simulated.noisy, simulated.clean, f"simulated, {photons:g} photons a pixel")
    worst = max((row.lost_db for row in rows), key=lambda lost: np.inf if np.isnan(lost) else lost)
    limit = LOSS_LIMIT_DB[precision]
    if not (worst <= limit or force):
        raise PrecisionRefused(
            f"{bundle.manifest.name} loses {worst:.3f} dB in {precision}, and {limit:g} dB is the limit: "
            "keep float32, or add `force`."
        )
    files = {f"{name}.onnx": data for name, data in lowered.graphs.items()}
    files["weights.safetensors"] = (bundle.folder / "weights.safetensors").read_bytes()
    files["README.md"] = _card(bundle, precision, rows)
    write_bundle(folder, _manifest(bundle.manifest, folder, precision, rows), files)
    return Bundle.load(folder), rows


def _centre(movie: Frames) -> Frames:
    """Return the first frames of a movie, cut to the middle: enough, and the same time for every movie."""
    top, left = (max(0, (n - _EDGE) // 2) for n in movie.shape[1:])
    return np.ascontiguousarray(movie[:_FRAMES, top : top + _EDGE, left : left + _EDGE])


def _noisy_again(torch: Backend, bundle: Bundle, movie: Frames) -> tuple[Frames, Frames]:
    """Return a movie of real content with a truth: what torch makes of it, with and without new noise."""
    clean, intensity = _denoise(bundle, movie.astype(np.float32), torch)
    z = (clean - intensity.offset) / intensity.scale
    variance = np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor)
    chance = np.random.default_rng(_SEED).standard_normal(clean.shape, np.float32)
    return (clean + intensity.scale * np.sqrt(variance) * chance).astype(np.float32), clean


def _compare(
    torch: Backend, reference: Bundle, lower: Bundle, noisy: Frames, clean: Frames, name: str
) -> ParityRow:
    before, intensity = _denoise(reference, noisy, torch)
    after, _ = _denoise(lower, noisy, _BACKEND)
    difference = (after - before) / intensity.scale
    return ParityRow(
        movie=name,
        reference_db=_psnr_db(clean, before),
        lower_db=_psnr_db(clean, after),
        max_error=float(np.abs(difference).max()),
        rms_error=float(np.sqrt(np.mean(np.square(difference, dtype=np.float64)))),
    )


def _denoise(bundle: Bundle, noisy: Frames, backend: str | Backend) -> tuple[Frames, Intensity]:
    with Stream(bundle, backend=backend, start_within_s=None) as stream:
        if bundle.manifest.two_sided:
            calibrate_stream(stream, noisy)
            stream.survey(noisy, 0, len(noisy))
        outputs = []
        for number, frame in enumerate(noisy):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=time.perf_counter()))
        outputs += stream.flush()
        intensity = stream.intensity
    assert intensity is not None
    return np.stack([output.frame for output in outputs]), intensity


def _psnr_db(clean: Frames, estimate: Frames) -> float:
    error = float(np.mean(np.square(estimate - clean, dtype=np.float64)))
    peak = float(clean.max() - clean.min())
    return float(10 * np.log10(peak**2 / error))


def _manifest(old: BundleManifest, folder: Path, precision: str, rows: list[ParityRow]) -> BundleManifest:
    records = [
        QualityRecord(
            movie=row.movie,
            metric=f"PSNR in {precision} (dB, peak = clean maximum - minimum)",
            value=row.lower_db,
            baseline=row.reference_db,
            baseline_name="torch in float32",
        )
        for row in rows
        if np.isfinite(row.lower_db)
    ]
    name = folder.name.removesuffix(".denoscope")
    return old.model_copy(update={"name": name, "quality": [*old.quality, *records]})


def _card(bundle: Bundle, precision: str, rows: list[ParityRow]) -> bytes:
    card = bundle.folder / "README.md"
    text = card.read_text(encoding="utf-8").rstrip() if card.is_file() else f"# {bundle.manifest.name}"
    lines = [
        text,
        "",
        f"## In {precision}",
        "",
        f"Made from `{bundle.manifest.name}` ({bundle.digest[:12]}): {PRECISIONS[precision].what},",
        "the rest in float32; `weights.safetensors` holds the float32 weights. Differences to torch are in units of",
        "the noise at the movie's median; 16-bit rounding was emulated on a CPU, sums accumulated in float32.",
        "",
        "| movie | torch, float32 | this | lost | largest difference | RMS difference |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.movie} | {row.reference_db:.3f} dB | {row.lower_db:.3f} dB | {row.lost_db:.4f} dB "
            f"| {row.max_error:.2g} | {row.rms_error:.2g} |"
            for row in rows
        ),
    ]
    return ("\n".join(lines) + "\n").encode()
