"""Train a shipped bundle, measure it, and write it into the package.

    python benchmarks/shipped_model.py DATA --size standard [--from live] --processor-minutes 60

It learns from simulated scenes of every kind and from the first part of real movies. DATA holds the movies
that the card names (real ones to learn from, pairs with truth to measure on). The pairs with truth are never
learned from. Training can be interrupted and continued with --resume. With --intervals STEPS only the correction of
the predicted deviations is learned, from simulated scenes; the pictures stay as they are to the bit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
import torch
from anscombe_transform.codec import make_anscombe_lookup, make_inverse_lookup
from make_demo_movie import BETA, GAIN, ZERO_LEVEL
from rich.progress import Progress
from safetensors.torch import load_file, save_file

from denoscope.export import export_bundle, load_network
from denoscope.runtime import Bundle, QualityRecord, estimate_intensity
from denoscope.train import (
    ALL_KINDS,
    FitSettings,
    LiveNet,
    LiveNetSettings,
    TrainingMovie,
    fit,
    load_flow,
    movie_from_file,
    simulated_movies,
    test_movie,
)
from denoscope.train.data.sampling import CELL
from denoscope.train.evaluation.truth import evaluate_pair
from denoscope.train.networks.live.rehearsal import blended
from denoscope.train.networks.live.task import LiveTask

BUNDLES = Path(__file__).parent.parent / "runtime" / "denoscope" / "runtime" / "bundles"
PARTS = {"real_1p_gcamp": 100, "real_confocal_lysosome_01": 50, "real_tirf_200hz": 15}
TWO_PHOTON_FRAMES = 150  # the demo replays what comes after
PAIRS = ("naomi_a_static_high", "naomi_a_static_mid", "naomi_a_motion_high")


# Two-photon scenes are what the package is used for most; they and crawling cells move in parts, which is hardest.
KINDS = ("two-photon", "two-photon", *ALL_KINDS, "moving-cells")
STILL_KINDS = (*("two-photon",) * 4, *("one-photon",) * 2, "moving-cells", "confocal")
NAMES = {"fast": "live-fast", "standard": "live", "hq": "live-hq", "recorded": "recorded"}


def training_movies(
    data: Path, simulated: int, seed: int, frames: int, kinds: Sequence[str] = KINDS, fine: float = 0.0
) -> list[TrainingMovie]:
    """Return simulated movies of every kind and the training part of each real one."""
    with Progress() as bar:
        task = bar.add_task("simulating", total=simulated)
        movies = simulated_movies(
            simulated,
            frames=frames,
            seed=seed,
            kinds=kinds,
            fine=fine,
            progress=lambda n: bar.update(task, completed=n),
        )
    return movies + real_movies(data)


def real_movies(data: Path) -> list[TrainingMovie]:
    """Return the training part of each real movie."""
    movies = [movie_from_file(data / f"{name}.tif", slice(0, stop)) for name, stop in PARTS.items()]
    levels = make_inverse_lookup(make_anscombe_lookup(GAIN, zero_level=ZERO_LEVEL, beta=BETA)).astype(
        np.uint16
    )
    two_photon = levels[tifffile.imread(data / "real_2p_gcamp_codes.tif")[:TWO_PHOTON_FRAMES]]
    return [*movies, TrainingMovie("real_2p_gcamp", two_photon, None, estimate_intensity(two_photon[:32]))]


def main() -> None:
    """Train, export, measure, and export again with the measurements on the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", choices=list(NAMES), default="standard")
    parser.add_argument("--from", dest="start", help="bundle to begin with; random weights otherwise")
    parser.add_argument(
        "--blend",
        type=float,
        default=1.0,
        help="share of the new weights; the rest are those of --from (Wortsman et al. 2022)",
    )
    parser.add_argument(
        "--weights", type=Path, help="trained already, by shipped_models_gpu.py: its NAME.safetensors"
    )
    parser.add_argument("--intervals", type=int, metavar="STEPS", help="learn the intervals of --from alone")
    parser.add_argument("--processor-minutes", type=float, default=60)
    parser.add_argument("--minutes", type=float, help="by the clock, in place of the processor's minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["32", "bf16-mixed"], default="32")
    parser.add_argument("--simulated", type=int, default=120)
    parser.add_argument("--frames", type=int, default=420, help="of a simulated movie")
    parser.add_argument("--kinds", choices=["usual", "still"], default="usual", help="still: more tissue")
    parser.add_argument(
        "--fine", type=float, default=0.0, help="share of the simulated movies with fine structure"
    )
    parser.add_argument("--real-share", type=float, default=0.2, help="of the windows")
    parser.add_argument("--learning-rate", type=float, help="largest; 0.001 with --from, else 0.002")
    parser.add_argument("--save", type=Path, help="file for the weights, to be used with --weights later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name = NAMES[arguments.size]
    output = arguments.output or BUNDLES / f"{name}.denoscope"

    parent = Bundle.load(arguments.start) if arguments.start else None
    start = load_network(parent) if parent else None
    assert start is None or isinstance(start, LiveNet)
    torch.manual_seed(arguments.seed)
    shape = LiveNetSettings.preset(arguments.size)
    flow = load_flow(passes=1) if shape.guided else None
    begin = grown(start, LiveNet(shape, flow)) if start else None
    if arguments.weights:
        if begin is None:
            parser.error("--weights needs the bundle that their training began with: give --from.")
        network = LiveNet(shape, flow)
        network.load_state_dict(blended(begin, load_file(arguments.weights), 1 - arguments.blend))
        trained_on = [
            lineage(parent) + averaged(arguments.blend),
            *trained_on_gpu(arguments.weights.with_name("training.json")),
        ]
        write(network, output, name, trained_on, arguments.data)
        return
    kinds = STILL_KINDS if arguments.kinds == "still" else KINDS
    movies = training_movies(
        arguments.data, arguments.simulated, arguments.seed, arguments.frames, kinds, arguments.fine
    )
    if arguments.intervals:
        if begin is None:
            parser.error("--intervals needs a bundle whose intervals are to be learned: give --from.")
        network = LiveNet(shape, flow)
        network.load_state_dict(begin)
        learn_intervals(network, movies, steps=arguments.intervals, seed=arguments.seed)
        trained_on = [
            *parent.manifest.trained_on,
            f"intervals alone: {arguments.intervals} steps on {arguments.simulated} simulated movies with "
            f"truth, seed {arguments.seed}",
        ]
        write(network, output, name, trained_on, arguments.data)
        return
    with Progress() as bar:
        task = bar.add_task("training", total=1)
        result = fit(
            movies,
            arguments.checkpoint or Path(f"runs/{name}.safetensors"),
            settings=FitSettings(
                processor_minutes=None if arguments.minutes else arguments.processor_minutes,
                minutes=arguments.minutes,
                seed=arguments.seed,
                simulated_hold_out=0.1,
                stop_after=None,
                learning_rate=arguments.learning_rate or (1e-3 if start else 2e-3),
                precision=arguments.precision,
                real_share=arguments.real_share,
            ),
            network=shape,
            start=begin,
            flow=flow,
            resume=arguments.resume,
            on_progress=lambda p: bar.update(
                task, completed=p.done, description=f"training, step {p.step}, loss {p.loss:.3f}"
            ),
        )
    if arguments.save:
        save_file(result.network.state_dict(), arguments.save)
        report = {
            "scenes": arguments.simulated,
            "seed": arguments.seed,
            "steps": result.steps,
            "windows": FitSettings.batch,
            "seconds": result.processor_s,
            "device": "thread of a processor",
            "kinds": list(kinds),
            "fine": arguments.fine,
            "held_out": [result.score_before, result.score_after],
        }
        arguments.save.with_name("training.json").write_text(json.dumps(report), encoding="utf-8")
        return
    if begin is not None and arguments.blend < 1:
        result.network.load_state_dict(blended(begin, result.network.state_dict(), 1 - arguments.blend))
    trained_on = [
        *([lineage(parent) + averaged(arguments.blend)] if parent else []),
        simulated_part(arguments.simulated, kinds, arguments.fine, arguments.seed),
        *real_parts(),
        f"{result.steps} steps of {FitSettings.batch} windows in {result.processor_s / 60:.0f} minutes of a "
        f"processor; held-out score {result.score_before:.4f} -> {result.score_after:.4f}",
    ]
    write(result.network, output, name, trained_on, arguments.data)


def real_parts() -> list[str]:
    """Return which real movies are learned from, in words."""
    return [
        *(f"{movie}, frames 0 to {stop - 1}, without truth" for movie, stop in PARTS.items()),
        f"real_2p_gcamp, frames 0 to {TWO_PHOTON_FRAMES - 1}, without truth",
    ]


def simulated_part(scenes: int, kinds: Sequence[str], fine: float, seed: int) -> str:
    """Return which simulated movies were learned from, in words."""
    detail = f", {fine:.0%} with fine structure" if fine else ""
    return (
        f"{scenes} simulated movies with truth, {mixture(kinds)}{detail}, 0.1 to 1,000 photons a pixel, "
        f"seed {seed}"
    )


def trained_on_gpu(report: Path) -> list[str]:
    """Return what a training of shipped_models_gpu.py saw, in words."""
    found = json.loads(report.read_text(encoding="utf-8"))
    return [
        simulated_part(found["scenes"], found.get("kinds", KINDS), found.get("fine", 0.0), found["seed"]),
        *real_parts(),
        f"{found['steps']} steps of {found['windows']} windows in {found['seconds'] / 60:.1f} minutes of one "
        f"{found['device']}",
    ]


def write(network: LiveNet, output: Path, name: str, trained_on: list[str], data: Path) -> None:
    """Export a network with its measurements on the card."""
    with tempfile.TemporaryDirectory() as folder:
        draft = export_bundle(network, Path(folder) / f"{name}.denoscope", name=name, trained_on=trained_on)
        quality = measure(draft, data)
    export_bundle(network, output, name=name, trained_on=trained_on, quality=quality)
    print(f"wrote {output}")


def learn_intervals(network: LiveNet, movies: list[TrainingMovie], *, steps: int, seed: int) -> None:
    """Learn the correction of the predicted deviations from simulated movies; nothing else changes."""
    assert network.spread is not None
    network.requires_grad_(requires_grad=False).train()
    correcting = ("spread.", "second.doubt")
    parameters = [p for name, p in network.named_parameters() if name.startswith(correcting)]
    for parameter in parameters:
        parameter.requires_grad_(requires_grad=True)
    known = [movie for movie in movies if movie.clean is not None]
    task = LiveTask(known, FitSettings(seed=seed, simulated_hold_out=0.1), network.settings)
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with Progress() as bar:
        for step in bar.track(range(steps), description="intervals"):
            batch = task.draw(np.random.default_rng((seed, 5, step)), step)
            loss, _ = task.loss(network, tuple(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def grown(start: LiveNet, larger: LiveNet) -> dict[str, torch.Tensor]:
    """Return weights of a wider or deeper network that computes what `start` does (Chen et al. 2016).

    New channels keep their random weights, and what was there before reads them with weights of zero; a
    new layer in a row begins as the identity.
    """
    weights, old_weights = larger.state_dict(), start.state_dict()
    for name, old in old_weights.items():
        if name.startswith("flow."):
            continue  # the larger one's own: trained by itself
        new = weights[name]
        if new.ndim == 0:
            new.copy_(old)
            continue
        if new.ndim == 1:
            new[: len(old)] = old
            continue
        places = read_places(name, start.settings, larger.settings) or list(range(old.shape[1]))
        new[: len(old)] = 0
        if name == "mix.weight":
            new[len(old) :] = 0  # to lean to neither side of the centre
        new[: len(old), places] = old
    for name in sorted(weights.keys() - old_weights.keys()):
        if name.startswith("blind_view.layers.") and start.blind_view is not None:
            width, new = start.settings.blind_width, weights[name]
            new[:width] = 0
            if new.ndim == 4:
                new[range(width), range(width), 1, 1] = 1
    return weights


def read_places(layer: str, old: LiveNetSettings, new: LiveNetSettings) -> list[int]:
    """Return where a layer that reads several tensors finds the old one's inputs; nothing for other layers."""
    neighbours = old.window - 1
    read = {
        "entry.weight": lambda s: [s.encode_channels] * neighbours + [s.memory_channels + CELL + s.guided],
        "head.0.weight": lambda s: [s.trunk_width, *[s.spatial_channels] * 3, s.blind_width],
    }
    if layer not in read:
        return []
    places, at = [], 0
    for before, now in zip(read[layer](old), read[layer](new), strict=True):
        places += range(at, at + before)
        at += now
    return places


def mixture(kinds: Sequence[str]) -> str:
    """Return kinds of scenes with how often each is drawn, in words."""
    return ", ".join(f"{kind} {kinds.count(kind)}/{len(kinds)}" for kind in dict.fromkeys(kinds))


def lineage(parent: Bundle) -> str:
    """Return a parent and what it was trained on, in words."""
    return (
        f"started from {parent.manifest.name} ({parent.digest[:12]}: {'; '.join(parent.manifest.trained_on)})"
    )


def averaged(blend: float) -> str:
    """Return how the new weights were joined with the parent's, in words."""
    return f", {blend:g} of the new weights averaged with its own" if blend < 1 else ""


def measure(bundle: Bundle, data: Path) -> list[QualityRecord]:
    """Score a bundle on the simulated test movie and the pairs with truth, for its card."""
    simulated = test_movie()
    pairs = [("simulated test movie", simulated.as_uint16(), simulated.clean)]
    for name in PAIRS:
        noisy, clean = (tifffile.imread(data / f"{name}_{kind}.tif") for kind in ("noisy", "clean"))
        pairs.append((name, noisy, clean))
    quality = []
    for name, noisy, clean in pairs:
        pair = evaluate_pair(name, noisy, np.asarray(clean), [bundle])
        scores = {row.method: row.score for row in pair.rows}
        ours, theirs = scores[bundle.manifest.name], scores["gaussian"]
        print(name, {m: round(s.psnr_db, 2) for m, s in scores.items()}, pair.coverage_68, pair.coverage_95)
        quality += [
            QualityRecord(
                movie=name,
                metric=metric,
                value=value,
                baseline=baseline,
                baseline_name="3-D Gaussian tuned on the truth",
            )
            for metric, value, baseline in (
                ("PSNR, dB (peak: maximum)", ours.psnr_db, theirs.psnr_db),
                ("SSIM", ours.ssim, theirs.ssim),
            )
        ]
    return quality


if __name__ == "__main__":
    main()
