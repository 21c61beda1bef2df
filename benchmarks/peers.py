"""One table: the bundles beside tuned filters, SVD, BM4D and the networks of other groups, on movies with truth.

    python benchmarks/peers.py DATA --output DIR [--only MOVIE ...] [--methods METHOD ...] [--frames N] [--edge 96]
        [--code support=FOLDER deepcad-rt=FOLDER srdtrans=FOLDER fast=FOLDER] [--minutes 3] [--train-on MOVIE ...]

Movies: the NAOMi pairs in DATA, the eight simulated test movies, six scenes of seeds that no training uses; of each the
first frames (200 of NAOMi's, 120 of the others) and the middle part. Methods: noisy; 3-D Gaussian, and Gaussian + SVD,
tuned on the truth, which no user has; BM4D after a generalised Anscombe transform (`pip install bm4d`, free for
non-commercial use only, therefore never installed with denoscope; 64 px and 100 frames, where every method has a second
PSNR); with `--methods pmd` PMD (`pip install localmd`; of a few hundred frames it keeps nothing); the bundles; and on
the movies of --train-on `recorded` adapted to the movie (`denoscope train --from`) and the networks in the folders of
--code, each trained on the noisy movie for the same processor minutes on one thread.

Peers that learn a loss with L1 are too dark where there are few photons. So every method has the PSNR after the
straight line that brings it closest to the truth, too.

Writes DIR/peers.json after every row, with commit, versions and SHA-256 of bundles and movies; what it has already is
not measured again, unless the bundle, the minutes or the size differ. Prints the tables as markdown, then which bars
are missed, and draws DIR/peers.png.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _provenance import provenance, write_results
from every_scene import adapted
from peer_networks import PEERS, Peer, train_peer
from recorded import best_svd, middle
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from skimage.metrics import structural_similarity

from denoscope.runtime import Bundle, GeneralisedAnscombe, InvalidInput, as_float32, estimate_intensity
from denoscope.train import (
    TEST_MOVIES,
    CameraSettings,
    SceneSettings,
    TrainingMovie,
    random_settings,
    simulate,
    test_movie,
)
from denoscope.train.evaluation.metrics import best_gaussian, reliability, score
from denoscope.train.evaluation.truth import denoise_offline

NAOMI = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")
SEED = 2_207_401
FRESH_KINDS = ("two-photon", "two-photon", "two-photon", "one-photon", "confocal", "moving-cells")
FRESH = tuple(f"new-{number}-{kind}" for number, kind in enumerate(FRESH_KINDS, 1))
MOVIES = (*NAOMI, *TEST_MOVIES, *FRESH)
BUNDLES = ("live-fast", "live", "live-hq", "recorded")
FILTERS = ("noisy", "gaussian", "gaussian + svd")
COARSE = 4.0  # counts of noise: below, `denoise` advises `--float32`, and the bundles write it here, too
CROP, CROP_FRAMES = 64, 100  # what BM4D denoises
PICTURES = (*NAOMI, "moving-cells")
SHOWN = ("truth", "noisy", "gaussian", "bm4d", "support, L2", "live", "live-hq", "recorded")

Counts = npt.NDArray[Any]
Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """Output of a method for a movie, on a part of it where `whole` is False, and what it took."""

    movie: Counts
    std: Frames | None = None
    setting: str = ""
    whole: bool = True
    more: dict[str, Any] | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes
    ----------
    name
        In the table.
    version
        A row with another one is measured again.
    run
        Denoises a movie.
    on
        Movies that it is for.
    """

    name: str
    version: str
    run: Callable[[Subject], Made]
    on: tuple[str, ...] = MOVIES


@dataclass(frozen=True)
class Subject:
    """A movie with its truth."""

    name: str
    frames: int
    edge: int
    data: Path
    on_share: Callable[[float], None] = lambda _: None

    @cached_property
    def pair(self) -> tuple[Counts, Frames]:
        """(T, H, W) noisy counts and truth."""
        if self.name in NAOMI:
            noisy, clean = (
                middle(self.data / f"{self.name}_{kind}.tif", self.frames, self.edge)
                for kind in ("noisy", "clean")
            )
            return noisy, clean.astype(np.float32)
        made = test_movie(self.name) if self.name in TEST_MOVIES else new_scene(self.name, self.frames)
        part = (slice(self.frames), *_middle(made.clean.shape[1:], self.edge))
        noisy = np.clip(np.rint(made.noisy[part]), 0, 65535).astype(np.uint16)
        return np.ascontiguousarray(noisy), np.ascontiguousarray(made.clean[part], np.float32)

    @property
    def noisy(self) -> Counts:
        """(T, H, W) counts."""
        return self.pair[0]

    @property
    def truth(self) -> Frames:
        """(T, H, W) expected counts."""
        return self.pair[1]

    @property
    def part(self) -> tuple[slice, slice, slice]:
        """First frames of the middle, for methods that are slow."""
        return (slice(CROP_FRAMES), *_middle(self.truth.shape[1:], CROP))

    def sha256(self) -> str:
        """Return the SHA-256 of both movies."""
        return hashlib.sha256(b"".join(np.ascontiguousarray(m).tobytes() for m in self.pair)).hexdigest()


def _middle(shape: tuple[int, ...], edge: int) -> tuple[slice, slice]:
    top, left = (max(0, (n - edge) // 2) for n in shape)
    return slice(top, top + edge), slice(left, left + edge)


def moves(name: str) -> bool:
    """Say whether the scene or what is in it moves."""
    if name in NAOMI:
        return name == "naomi_a_motion_high"
    scene = TEST_MOVIES[name][0] if name in TEST_MOVIES else new_settings(name, 120)[0]
    shifts = scene.motion_px, scene.jitter_px, scene.local_motion_px
    return any(shifts) or scene.kind in ("moving-cells", "confocal")


def new_scene(name: str, frames: int) -> Any:
    """Simulate one of the scenes of new seeds."""
    scene, camera, seed = new_settings(name, frames)
    return simulate(scene, camera, seed=seed)


def new_settings(name: str, frames: int) -> tuple[SceneSettings, CameraSettings, int]:
    """Draw a scene of new seeds from everything that bundles are trained for."""
    number = FRESH.index(name)
    rng = np.random.default_rng((SEED, number))
    # Twice the kind: one alone would leave out what cameras and motion vary in.
    kinds = (FRESH_KINDS[number],) * 2
    scene, camera = random_settings(rng, frames=frames, height=128, width=128, kinds=kinds)
    return scene, camera, int(rng.integers(2**31))


def methods_of(options: argparse.Namespace) -> list[Method]:
    """Return the rows that were asked for and can be made here."""
    size = f"{options.frames or 'default'} x {options.edge}"
    rows = [
        Method("noisy", size, lambda s: Made(s.noisy)),
        Method("gaussian", size, _gaussian),
        Method("gaussian + svd", size, _svd),
    ]
    if importlib.util.find_spec("bm4d"):
        rows.append(Method("bm4d", size, _bm4d))
    if "pmd" in (options.methods or []):
        rows.append(Method("pmd", size, _pmd))
    for name in BUNDLES:
        bundle = Bundle.load(name)
        rows.append(Method(name, f"{bundle.digest[:12]} {size}", lambda s, b=bundle: _bundle(b, s, options)))
    minutes = f"{options.minutes:g} min {size}"
    parent = Bundle.load(options.adapt)
    rows.append(
        Method(
            f"{options.adapt}, adapted",
            f"{parent.digest[:12]} {minutes}",
            lambda s: _adapted(parent, s, options),
            tuple(options.train_on),
        )
    )
    rows += [
        Method(
            peer.name,
            f"{minutes} {peer.setting}",
            lambda s, p=peer, f=folder: _peer(p, f, s, options.minutes),
            tuple(options.train_on),
        )
        for name, folder in options.code
        for peer in PEERS[name]
    ]
    return [row for row in rows if not options.methods or row.name in options.methods]


def _gaussian(subject: Subject) -> Made:
    movie, setting = best_gaussian(subject.truth, subject.noisy)
    return Made(movie, setting=f"tuned on the truth: {setting}")


def _svd(subject: Subject) -> Made:
    setting, _, movie = best_svd(subject.truth, subject.noisy)
    return Made(movie, setting=f"tuned on the truth: {setting}")


def _bm4d(subject: Subject) -> Made:
    from bm4d import bm4d

    noisy = subject.noisy[subject.part]
    started = time.process_time()
    transform = GeneralisedAnscombe.of(estimate_intensity(subject.noisy[:32]))
    stable = np.asarray(transform.forward(noisy), np.float64)
    # Not the median deviation: with few photons most pixels count none, and it would be zero.
    sigma = float(np.diff(stable, axis=0).std() / np.sqrt(2))
    made = np.asarray(transform.inverse(bm4d(stable, sigma)), np.float32)
    cost = (time.process_time() - started) / len(noisy) * subject.noisy[0].size / noisy[0].size
    return Made(
        made,
        setting=f"{CROP} px, {CROP_FRAMES} frames, sigma {sigma:.2f} after Anscombe",
        whole=False,
        more={"processor_s_a_frame": cost},
    )


def _pmd(subject: Subject) -> Made:
    from localmd.dataset import PMDDataset
    from localmd.decomposition import localmd_decomposition

    class Held(PMDDataset):  # type: ignore[misc,unused-ignore]
        """A movie in memory."""

        shape = (*subject.noisy.shape[1:], len(subject.noisy))

        def get_frames(self, frames: list[int]) -> Frames:
            return subject.noisy[frames].astype(np.float32).transpose(1, 2, 0)

    started = time.process_time()
    block = min(32, *subject.noisy.shape[1:])
    u, r, s, vt, std, mean, shape, order = localmd_decomposition(
        Held(), [block, block], [block // 2, block // 2], len(subject.noisy), max_components=20
    )
    made = (u @ (np.asarray(r) * np.asarray(s)) @ np.asarray(vt)).reshape(shape, order=order)
    made = made * np.asarray(std)[..., None] + np.asarray(mean)[..., None]
    if not np.isfinite(made).all():
        raise InvalidInput(
            f"localmd keeps no component of {len(subject.noisy)} frames of {subject.name}: give more frames."
        )
    cost = (time.process_time() - started) / len(subject.noisy)
    movie = np.ascontiguousarray(made.transpose(2, 0, 1), np.float32)
    return Made(movie, setting=f"blocks of {block} px", more={"processor_s_a_frame": cost})


def _bundle(bundle: Bundle, subject: Subject, options: argparse.Namespace) -> Made:
    started = time.process_time()
    movie = subject.noisy
    coarse = estimate_intensity(movie[:32]).scale < COARSE
    mean, std = denoise_offline(
        bundle,
        as_float32(movie) if coarse else movie,
        backend=options.backend,
        on_frame=lambda n: subject.on_share(n / len(subject.noisy)),
    )
    cost = (time.process_time() - started) / len(mean)
    return Made(mean, std, setting="float32" if coarse else "", more={"processor_s_a_frame": cost})


def _adapted(parent: Bundle, subject: Subject, options: argparse.Namespace) -> Made:
    movie = TrainingMovie(subject.name, subject.noisy, None, estimate_intensity(subject.noisy[:32]))
    started = time.process_time()
    wanted = SimpleNamespace(adapt_minutes=options.minutes, output=options.output)
    bundle = adapted(movie, parent, f"{parent.manifest.name}-adapted", wanted)
    minutes = (time.process_time() - started) / 60
    made = _bundle(bundle, subject, options)
    return Made(
        made.movie, made.std, more={**(made.more or {}), "training_processor_minutes": round(minutes, 2)}
    )


def _peer(peer: Peer, folder: Path, subject: Subject, minutes: float) -> Made:
    trained = train_peer(peer, folder, subject.noisy, minutes=minutes, on_share=subject.on_share)
    started = time.process_time()
    movie = trained.denoise(subject.noisy)
    return Made(
        movie,
        setting=peer.setting,
        more={
            "processor_s_a_frame": (time.process_time() - started) / len(movie),
            "training_processor_minutes": round(trained.minutes, 2),
            "steps": trained.steps,
            "share_of_schedule": trained.share_of_schedule,
            "parameters": sum(p.numel() for p in trained.network.parameters()),
        },
    )


def row_of(method: Method, subject: Subject, made: Made) -> dict[str, Any]:
    """Return the scores of what a method made of a movie."""
    truth = subject.truth if made.whole else subject.truth[subject.part]
    movie = np.asarray(made.movie, np.float32)
    found = score(truth, movie)
    peak = float(truth.max() - truth.min())
    row: dict[str, Any] = {
        "method": method.name,
        "version": method.version,
        "setting": made.setting,
        "whole": made.whole,
        "psnr_db": found.psnr_db,
        "psnr_p999_db": found.psnr_p999_db,
        "ssim_p999": ssim_p999(truth, movie),
        "psnr_line_db": _psnr(truth, on_line(truth, movie), peak),
        "bias_counts": float(movie.mean(dtype=np.float64) - truth.mean(dtype=np.float64)),
    }
    crop = movie[subject.part] if made.whole else movie
    row["psnr_crop_db"] = score(subject.truth[subject.part], crop).psnr_db
    if made.std is not None:
        inside = reliability(truth, movie, made.std)
        row |= {"coverage_68": inside.coverage(0.68), "coverage_95": inside.coverage(0.95)}
    return row | (made.more or {})


def ssim_p999(truth: Frames, movie: Frames) -> float:
    """Return the structural similarity of frames scaled to the clean movie's 99.9 percentile."""
    peak = float(np.percentile(truth, 99.9) - truth.min())
    at = range(0, len(truth), max(1, len(truth) // 100))
    return float(np.mean([structural_similarity(truth[t], movie[t], data_range=peak) for t in at]))


def on_line(truth: Frames, movie: Frames) -> Frames:
    """Return a movie on the straight line that brings it closest to the truth."""
    slope, start = np.polyfit(movie.ravel().astype(np.float64), truth.ravel().astype(np.float64), 1)
    return np.asarray(slope * movie + start, np.float32)


def _psnr(truth: Frames, movie: Frames, peak: float) -> float:
    return float(10 * np.log10(peak**2 / max(float(np.mean(np.square(movie - truth))), 1e-30)))


def measure(
    report: dict[str, Any],
    methods: list[Method],
    movies: list[str],
    options: argparse.Namespace,
    save: Callable[[], None],
) -> list[str]:
    """Add to the report what it lacks, save it after every row, and say what could not be measured."""
    refused: list[str] = []
    todo = [
        (name, method)
        for name in movies
        for method in methods
        if name in method.on and known(report, name, method.name).get("version") != method.version
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=len(todo))
        subject: Subject | None = None
        for number, (name, method) in enumerate(todo):
            bar.update(task, completed=number, description=f"{name}: {method.name}")
            if subject is None or subject.name != name:
                subject = Subject(
                    name,
                    options.frames or (200 if name in NAOMI else 120),
                    options.edge,
                    options.data,
                    lambda share, number=number: bar.update(task, completed=number + share),
                )
            try:
                made = method.run(subject)
            except InvalidInput as error:
                refused.append(f"{name}: {method.name} not measured. {error}")
                bar.console.print(refused[-1], highlight=False)
                continue
            row = row_of(method, subject, made) | {"commit": provenance()["commit"]}
            entry = report["movies"].setdefault(
                name, {"sha256": subject.sha256(), "shape": subject.truth.shape, "rows": {}}
            )
            entry["rows"][method.name] = row
            keep_picture(subject, method.name, made, options.output / "frames")
            save()
            bar.console.print(f"{name}: {said(row)}", highlight=False)
    return refused


def known(report: dict[str, Any], movie: str, method: str) -> dict[str, Any]:
    """Return a row that is there already, or an empty one."""
    found: dict[str, Any] = report["movies"].get(movie, {}).get("rows", {}).get(method, {})
    return found


def said(row: dict[str, Any]) -> str:
    """Return a row in words."""
    words = f"{row['method']} {row['psnr_db']:.2f} dB ({row['psnr_line_db']:.2f} on a line)"
    words += f", SSIM {row['ssim_p999']:.3f}"
    if "coverage_68" in row:
        words += f", truth inside {row['coverage_68']:.0%}, {row['coverage_95']:.0%}"
    if "processor_s_a_frame" in row:
        words += f", {1e3 * row['processor_s_a_frame']:.1f} ms"
    if "steps" in row:
        words += f", {row['steps']} steps, {row['share_of_schedule']:.2%} of the schedule"
    return words


def keep_picture(subject: Subject, method: str, made: Made, folder: Path) -> None:
    """Keep the middle of one frame for the picture."""
    if subject.name not in PICTURES:
        return
    folder.mkdir(parents=True, exist_ok=True)
    at = min(CROP_FRAMES, len(subject.truth)) // 2
    for name, movie, whole in (("truth", subject.truth, True), (method, made.movie, made.whole)):
        crop = movie[subject.part] if whole else movie
        np.save(folder / f"{subject.name}-{name}.npy", np.asarray(crop[at], np.float32))


def draw(report: dict[str, Any], folder: Path, path: Path) -> None:
    """Draw the kept frames side by side, a movie a row, all on the grey scale of the truth."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in PICTURES if (folder / f"{name}-truth.npy").exists()]
    if not names:
        return
    figure = Figure(figsize=(1.15 * len(SHOWN), 1.3 * len(names) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, method) in zip(
        figure.subplots(len(names), len(SHOWN), squeeze=False).ravel(),
        ((name, method) for name in names for method in SHOWN),
        strict=True,
    ):
        axes.set_axis_off()
        file = folder / f"{name}-{method}.npy"
        if not file.exists():
            continue
        low, high = np.percentile(np.load(folder / f"{name}-truth.npy"), (1, 98))
        axes.imshow(np.load(file), cmap="gray", vmin=low, vmax=high)
        row = known(report, name, method)
        title = method if name == names[0] else ""
        axes.set_title(f"{title}\n{row['psnr_crop_db']:.1f} dB" if row else title, fontsize=6, pad=2)
    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})


def table(report: dict[str, Any], key: str, form: str, methods: list[str]) -> str:
    """Return one number of every method, a movie a row, as markdown; the best is bold."""
    lines = ["| movie | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for name in MOVIES:
        rows = [known(report, name, method) for method in methods]
        if not any(rows):
            continue
        values = [row[key] if key in row and (row["whole"] or "crop" in key) else None for row in rows]
        best = max((v for v in values if v is not None), default=None)
        cells = ["" if v is None else f"**{v:{form}}**" if v == best else f"{v:{form}}" for v in values]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def bars(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every bar of `recorded`: the movie, the value, the limit, and whether it is reached."""
    found: list[dict[str, Any]] = []

    def add(name: str, what: str, value: float, limit: float, *, most: bool = False) -> None:
        reached = value <= limit if most else value >= limit
        found.append(
            {"movie": name, "bar": what, "value": round(value, 4), "limit": limit, "reached": bool(reached)}
        )

    for name in MOVIES:
        rows = report["movies"].get(name, {}).get("rows", {})
        if not {"recorded", "live-hq", "gaussian"} <= rows.keys():
            continue
        own, live, gauss = rows["recorded"], rows["live-hq"], rows["gaussian"]
        above = own["psnr_db"] - live["psnr_db"]
        if moves(name):
            add(name, "dB above live-hq, moving", above, 0.5)
        else:
            add(name, "dB above the tuned Gaussian, still", own["psnr_db"] - gauss["psnr_db"], 3.0)
            add(name, "dB above live-hq, still", above, 1.0)
        if {"processor_s_a_frame"} <= own.keys() & live.keys():
            cost = own["processor_s_a_frame"] / live["processor_s_a_frame"]
            add(name, "times the cost of live-hq", cost, 1.5, most=True)
        others = {k: r for k, r in rows.items() if k not in (*BUNDLES, "noisy") and "adapted" not in k}
        for other, row in others.items():
            if "steps" in row:
                line = max(row["psnr_db"], row["psnr_line_db"])
                add(name, f"dB above {other}", own["psnr_db"] - line, 1.0)
            elif not row["whole"]:
                add(name, f"dB above {other}, on its part", own["psnr_crop_db"] - row["psnr_crop_db"], 1.0)
        similar = {k: r["ssim_p999"] for k, r in others.items() if r["whole"]}
        best = max(similar, key=lambda k: similar[k])
        add(name, f"SSIM above {best}, the best other", own["ssim_p999"] - similar[best], 0.0)
    return found


def bars_said(found: list[dict[str, Any]]) -> Iterator[str]:
    """Return how many bars are reached, then those that are missed."""
    yield f"{sum(bar['reached'] for bar in found)} of {len(found)} bars reached"
    for bar in found:
        if not bar["reached"]:
            yield f"missed on {bar['movie']}: {bar['value']:+.2f} {bar['bar']} (limit {bar['limit']:g})"


def code(word: str) -> tuple[str, Path]:
    """Return name and folder of NAME=FOLDER."""
    name, _, folder = word.partition("=")
    if name not in PEERS or not folder:
        raise argparse.ArgumentTypeError(
            f"{word!r} is not NAME=FOLDER with one of the names {', '.join(PEERS)}"
        )
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is no folder: check out the code of {name} and name it")
    return name, Path(folder)


def read_report(file: Path) -> dict[str, Any]:
    """Return what was measured before."""
    if not file.exists():
        return {"movies": {}}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=MOVIES, default=list(MOVIES), metavar="MOVIE")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="rows to measure; all without")
    parser.add_argument("--frames", type=int, help="of each movie; 200 of NAOMi's and 120 of others without")
    parser.add_argument("--edge", type=int, default=96, help="of the middle part, pixels")
    parser.add_argument("--code", nargs="+", type=code, default=[], metavar="NAME=FOLDER")
    parser.add_argument("--adapt", default="recorded", help="bundle that learns from the movie")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="of one processor thread, for each training"
    )
    parser.add_argument("--train-on", nargs="+", choices=MOVIES, default=list(NAOMI), metavar="MOVIE")
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = options.output / "peers.json"
    report = read_report(file)
    report["seed"] = SEED

    def save() -> None:
        report["bars"] = bars(report)
        write_results(file, report, BUNDLES)

    refused = measure(report, methods_of(options), options.only, options, save)
    save()
    shown = [*FILTERS, "bm4d", "pmd", *(p.name for group in PEERS.values() for p in group), *BUNDLES]
    for key, form, title in (
        ("psnr_db", ".1f", "PSNR, dB"),
        ("psnr_line_db", ".1f", "PSNR after the best line, dB"),
        ("ssim_p999", ".3f", "SSIM"),
        ("psnr_crop_db", ".1f", "PSNR on the part that BM4D denoises, dB"),
    ):
        print(f"\n{title}\n\n{table(report, key, form, shown)}")
    print("\n" + "\n".join(bars_said(report["bars"])))
    draw(report, options.output / "frames", options.output / "peers.png")
    if refused:
        raise SystemExit("\n".join(refused))


if __name__ == "__main__":
    main()
