"""Write a bundle in a lower precision, with what that costs measured first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.export._errors import PrecisionRefused
from denoscope.export._half import half_precision, rounded_like_half
from denoscope.runtime import (
    Bundle,
    BundleManifest,
    FrameMeta,
    InvalidInput,
    QualityRecord,
    Stream,
    write_bundle,
)
from denoscope.train import CameraSettings, SceneSettings, SimulatedMovie, simulate

__all__ = ["LOSS_LIMIT_DB", "PRECISIONS", "ParityRow", "export_precision"]

PRECISIONS = ("fp16",)
LOSS_LIMIT_DB = {"fp16": 0.05}
_BACKEND = "onnxruntime-cpu"
_SCENE = SceneSettings(frames=72, height=96, width=96)
_PHOTONS = (0.3, 1.5, 30.0)  # dark, usual, bright: rounding shows most where there is little noise
_SEED = 2_000_000_101  # nothing is trained on it


@dataclass(frozen=True)
class ParityRow:
    """What a lower precision costs on one simulated movie.

    Attributes
    ----------
    movie
        What it was.
    reference_db, lower_db
        PSNR against the truth, peak = clean maximum - minimum, in float32 and in the lower precision.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "lost_db": self.lost_db}


def export_precision(
    bundle: Bundle,
    folder: Path,
    precision: str = "fp16",
    *,
    force: bool = False,
    on_movie: Callable[[ParityRow], None] | None = None,
) -> tuple[Bundle, list[ParityRow]]:
    """Write a copy of a float32 bundle in a lower precision if it loses little enough.

    The loss is measured through `Stream` and ONNX Runtime on three simulated movies, with the rounding of
    every half-precision value emulated (see `rounded_like_half`).

    Parameters
    ----------
    bundle
        A float32 bundle.
    folder
        Where to write, `NAME.denoscope`.
    precision
        `fp16`.
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
        If the precision is unknown, or the bundle is in a lower precision already.
    PrecisionRefused
        If it loses too much; the message gives the number.
    """
    if precision not in PRECISIONS:
        raise InvalidInput(f"--precision {precision} is unknown: choose {' or '.join(PRECISIONS)}.")
    graphs = {name: bundle.graph_bytes(name) for name in bundle.manifest.graphs}
    lower = {name: half_precision(data) for name, data in graphs.items()}
    done = [any(b"::half" in data for data in files.values()) for files in (graphs, lower)]
    if done != [False, True]:
        raise InvalidInput(
            f"{bundle.manifest.name} has no float32 convolution to be put into {precision}: "
            "start from the bundle that was trained."
        )
    emulated = Bundle(
        bundle.folder, bundle.manifest, {name: rounded_like_half(data) for name, data in graphs.items()}
    )
    rows = []
    for photons in _PHOTONS:
        movie = simulate(_SCENE, CameraSettings(photons=photons), seed=_SEED)
        rows.append(_compare(bundle, emulated, movie, f"simulated, {photons:g} photons a pixel"))
        if on_movie is not None:
            on_movie(rows[-1])
    worst = max((row.lost_db for row in rows), key=lambda lost: np.inf if np.isnan(lost) else lost)
    limit = LOSS_LIMIT_DB[precision]
    if not (worst <= limit or force):
        raise PrecisionRefused(
            f"{bundle.manifest.name} loses {worst:.3f} dB in {precision}, and {limit:g} dB is the limit: "
            "keep float32, or add --force."
        )
    files = {f"{name}.onnx": data for name, data in lower.items()}
    files["weights.safetensors"] = (bundle.folder / "weights.safetensors").read_bytes()
    files["README.md"] = _card(bundle, precision, rows)
    write_bundle(folder, _manifest(bundle.manifest, folder, precision, rows), files)
    return Bundle.load(folder), rows


def _compare(reference: Bundle, lower: Bundle, movie: SimulatedMovie, name: str) -> ParityRow:
    before, unit = _denoise(reference, movie.noisy)
    after, _ = _denoise(lower, movie.noisy)
    difference = (after - before) / unit
    return ParityRow(
        movie=name,
        reference_db=_psnr_db(movie.clean, before),
        lower_db=_psnr_db(movie.clean, after),
        max_error=float(np.abs(difference).max()),
        rms_error=float(np.sqrt(np.mean(np.square(difference, dtype=np.float64)))),
    )


def _denoise(bundle: Bundle, noisy: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], float]:
    with Stream(bundle, backend=_BACKEND) as stream:
        outputs = []
        for number, frame in enumerate(noisy):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=time.perf_counter()))
        outputs += stream.flush()
        intensity = stream.intensity
    assert intensity is not None
    return np.stack([output.frame for output in outputs]), intensity.scale


def _psnr_db(clean: npt.NDArray[np.float32], estimate: npt.NDArray[np.float32]) -> float:
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
            baseline_name="float32",
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
        f"Made from `{bundle.manifest.name}` ({bundle.digest[:12]}). Convolutions and what lies between them are",
        f"in {precision}, the rest in float32; `weights.safetensors` holds the float32 weights. Differences are in",
        "units of the noise at the movie's median; rounding was emulated on a CPU, sums accumulated in float32.",
        "",
        "| movie | float32 | this | lost | largest difference | RMS difference |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.movie} | {row.reference_db:.3f} dB | {row.lower_db:.3f} dB | {row.lost_db:.4f} dB "
            f"| {row.max_error:.2g} | {row.rms_error:.2g} |"
            for row in rows
        ),
    ]
    return ("\n".join(lines) + "\n").encode()
