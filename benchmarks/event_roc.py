"""Short events found in denoised movies and by the matched filter in raw ones, at equal rates of false alarms.

    python benchmarks/event_roc.py [BUNDLE ...] --output DIR [--contrasts 0.6 1.2 2.5 5] [--photons 1.5]
        [--code support=FOLDER ...] [--minutes 2]

Events of one and of three frames (`denoscope.train.evaluation.transients`) in a simulated still scene. An observer
knows the place and the length of an event, not its time. In the raw movie he sums the place's pixels over the event's
length, each weighted by the event's profile over its variance, and knows the scene without events: the matched filter,
than which there is no better test of these pixels where noise is normal. In a denoised movie he takes the plain mean of
the same pixels above the movie's median. Both are divided by their deviation in a movie without events, and the
threshold is the one that gives the same share of false alarms there.

The SNR is that of one frame, as in `transients.py`. Prints the share of events found, writes DIR/event-roc.json and
draws DIR/event_roc.png. With --code a network of another group is trained on each movie of events
(`peer_networks.py`).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _provenance import write_results
from peer_networks import PEERS, train_peer
from peers import code
from scipy import ndimage

from denoscope.runtime import Bundle
from denoscope.train.evaluation.transients import SHAPES, EventMovie, TransientSettings, event_movie
from denoscope.train.evaluation.truth import denoise_offline
from denoscope.train.simulator import CameraSettings

EVENTS = ("one frame", "three frames")
EDGES = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
ALARMS = (0.01, 0.001)
BAR_FROM = 4.0  # the SNR from which `live` has to reach the matched filter
LEAST = 12  # events of a share that is shown
RAW = "raw, matched filter"
Counts = npt.NDArray[Any]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Signal that an observer sees, in deviations of a movie without events.

    Attributes
    ----------
    quiet
        At every place and frame of that movie.
    events
        At every event.
    snrs
        Of the events.
    """

    quiet: Array
    events: Array
    snrs: Array

    def found(self, alarms: float, low: float, high: float) -> tuple[float, int]:
        """Return the share of events between two SNRs that are found at a share of false alarms, and how many."""
        here = (self.snrs >= low) & (self.snrs < high)
        threshold = np.quantile(self.quiet, 1 - alarms)
        return float((self.events[here] > threshold).mean()) if here.any() else float("nan"), int(here.sum())


def traces(movie: Counts, weights: Array, length: int) -> Array:
    """Return (places, T): weighted sums of each place's pixels, each the mean over an event that begins there."""
    flat = movie.reshape(len(movie), -1)
    sums = np.stack([flat[:, w.ravel() > 0] @ w[w > 0] for w in weights]).astype(np.float64)
    return np.asarray(ndimage.uniform_filter1d(sums, length, axis=1, origin=-(length // 2), mode="nearest"))


def matched_weights(movie: EventMovie, camera: CameraSettings) -> Array:
    """Return (places, H, W): the event's profile over the variance of a pixel without it."""
    light = np.maximum((movie.base.astype(np.float64) - camera.offset) / camera.gain, 0)
    variance = camera.gain**2 * (1 + camera.gain_spread**2) * light + camera.read_noise**2
    weights = np.zeros(movie.places.shape)
    for place, start in movie.starts:
        rise = movie.clean[start].astype(np.float64) - movie.base
        weights[place] = np.where(movie.places[place], np.maximum(rise, 0) / variance, 0)
    return weights


def seen(
    movie: EventMovie, shown: Counts, quiet: Counts, weights: Array, base: Array | None, first: int
) -> Seen:
    """Return what is seen of the events in one movie.

    Parameters
    ----------
    movie
        The events.
    shown, quiet
        (T, H, W): the movie with them and one without, both raw or both denoised.
    weights
        (places, H, W).
    base
        (H, W) counts without events, where known; else the median over time of each place is taken.
    first
        Frames before it are left out.
    """
    length = len(movie.shape)
    with_events, without = (traces(m, weights, length) for m in (shown, quiet))
    if base is None:
        with_events -= np.median(with_events, axis=1, keepdims=True)
        without -= np.median(without, axis=1, keepdims=True)
    else:
        level = (weights * base).sum(axis=(1, 2))[:, None]
        with_events, without = with_events - level, without - level
    without = without[:, first : without.shape[1] - length]
    deviation = np.maximum(without.std(axis=1, keepdims=True), 1e-9)
    at = with_events / deviation
    places = np.unique(movie.starts[:, 0])
    return Seen(
        (without / deviation)[places].ravel(),
        np.array([at[place, start] for place, start in movie.starts]),
        movie.snrs.astype(np.float64),
    )


def joined(parts: Sequence[Seen]) -> Seen:
    """Return the events of several movies as one."""
    return Seen(*(np.concatenate([getattr(p, key) for p in parts]) for key in ("quiet", "events", "snrs")))


def measure(
    denoisers: dict[str, Callable[[Counts], Callable[[Counts], Counts]]],
    settings: TransientSettings,
    contrasts: Sequence[float],
) -> dict[str, dict[str, Seen]]:
    """Return what is seen of the events of each kind, by method; a denoiser may learn from the movie of events."""
    camera = CameraSettings(photons=settings.photons)
    quiet = event_movie(settings, None).noisy
    made: dict[str, dict[str, list[Seen]]] = {event: {} for event in EVENTS}
    fixed = {name: prepare(quiet)(quiet) for name, prepare in denoisers.items() if name not in LEARNING}
    for event in EVENTS:
        for contrast in contrasts:
            movie = event_movie(replace(settings, contrast=contrast), SHAPES[event])
            weights = matched_weights(movie, camera)
            plain = np.where(movie.places, 1.0, 0.0) / movie.places.sum(axis=(1, 2), keepdims=True)
            base = movie.base.astype(np.float64)
            rows = {RAW: seen(movie, movie.noisy, quiet, weights, base, settings.first)}
            for name, prepare in denoisers.items():
                denoise = prepare(movie.noisy)
                still = fixed[name] if name in fixed else denoise(quiet)
                rows[name] = seen(movie, denoise(movie.noisy), still, plain, None, settings.first)
            for name, row in rows.items():
                made[event].setdefault(name, []).append(row)
            print(
                f"{event}, contrast {contrast:g}: {len(movie.starts)} events, SNR {movie.snr:.1f}", flush=True
            )
    return {event: {name: joined(parts) for name, parts in by.items()} for event, by in made.items()}


LEARNING: set[str] = set()  # methods that are trained on the movie of events


def rows_of(found: dict[str, dict[str, Seen]]) -> list[dict[str, Any]]:
    """Return the share of events found by kind, method, SNR and false alarms."""
    rows = []
    for event, by in found.items():
        for name, what in by.items():
            for low, high in itertools.pairwise(EDGES):
                for alarms in ALARMS:
                    share, count = what.found(alarms, low, high)
                    if count >= LEAST:
                        rows.append(
                            {
                                "event": event,
                                "method": name,
                                "snr": f"{low:g} to {high:g}",
                                "from": low,
                                "alarms": alarms,
                                "found": share,
                                "events": count,
                                # Of a share between none and all, with one event on either side.
                                "error": float(
                                    np.sqrt((share * count + 1) * (count - share * count + 1)) / count**1.5
                                ),
                            }
                        )
    return rows


def bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return by how much each method is ahead of the matched filter from `BAR_FROM` on."""
    raw = {(r["event"], r["snr"], r["alarms"]): r for r in rows if r["method"] == RAW}
    found = []
    for row in rows:
        if row["method"] == RAW or row["from"] < BAR_FROM:
            continue
        other = raw[row["event"], row["snr"], row["alarms"]]
        ahead = row["found"] - other["found"]
        unsure = float(np.hypot(row["error"], other["error"]))
        found.append(
            {key: row[key] for key in ("event", "method", "snr", "alarms")}
            | {"ahead": ahead, "error": unsure, "reached": bool(ahead >= -unsure)}
        )
    return found


def table(rows: list[dict[str, Any]], alarms: float) -> str:
    """Return the share found as markdown."""
    snrs = list(dict.fromkeys(row["snr"] for row in rows))
    lines = [f"| event | method | {' | '.join(f'SNR {s}' for s in snrs)} |", "|---|---|" + "---|" * len(snrs)]
    for event in EVENTS:
        for name in dict.fromkeys(row["method"] for row in rows):
            cells = [
                next(
                    (
                        f"{r['found']:.0%}"
                        for r in rows
                        if (r["event"], r["method"], r["snr"], r["alarms"]) == (event, name, snr, alarms)
                    ),
                    "",
                )
                for snr in snrs
            ]
            lines.append(f"| {event} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, Seen]], path: Path) -> None:
    """Draw the share found against false alarms, an SNR a panel, a kind of event a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spans = list(itertools.pairwise(EDGES))
    figure = Figure(figsize=(1.9 * len(spans), 2.1 * len(EVENTS)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(EVENTS), len(spans), sharex=True, sharey=True, squeeze=False)
    alarms = np.logspace(-3, -0.3, 40)
    for event, line in zip(EVENTS, grid, strict=True):
        for (low, high), axes in zip(spans, line, strict=True):
            for number, (name, what) in enumerate(found[event].items()):
                shares = [what.found(a, low, high) for a in alarms]
                if shares[0][1] >= LEAST:
                    style = "k-" if name == RAW else f"C{number - 1}-"
                    axes.semilogx(alarms, [s for s, _ in shares], style, linewidth=1, label=name)
            axes.set_title(f"{event}, SNR {low:g} to {high:g}", fontsize=6)
            axes.tick_params(labelsize=6)
    grid[0, 0].legend(fontsize=5, loc="lower right")
    figure.supxlabel("share of false alarms", fontsize=8)
    figure.supylabel("share of events found", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="*", default=["live", "recorded"])
    parser.add_argument("--photons", type=float, default=1.5)
    parser.add_argument("--contrasts", type=float, nargs="+", default=[0.6, 1.2, 2.5, 5.0])
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--code", nargs="+", type=code, default=[], metavar="NAME=FOLDER")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="of one processor thread, for each training"
    )
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    bundles = [Bundle.load(name) for name in options.bundles]
    denoisers: dict[str, Callable[[Counts], Callable[[Counts], Counts]]] = {
        b.manifest.name: lambda _, b=b: lambda m: denoise_offline(b, m, backend=options.backend)[0]
        for b in bundles
    }
    for name, folder in options.code:
        peer = PEERS[name][-1]
        LEARNING.add(peer.name)
        denoisers[peer.name] = lambda m, p=peer, f=folder: (
            train_peer(p, f, m, minutes=options.minutes).denoise
        )
    settings = TransientSettings(
        frames=options.frames, size=options.size, photons=options.photons, seed=options.seed
    )
    found = measure(denoisers, settings, options.contrasts)
    rows = rows_of(found)
    report = {
        "photons": options.photons,
        "contrasts": options.contrasts,
        "frames": options.frames,
        "size": options.size,
        "seed": options.seed,
        "minutes": options.minutes if options.code else None,
        "rows": rows,
        "bars": bars(rows),
    }
    write_results(options.output / "event-roc.json", report, bundles)
    for alarms in ALARMS:
        print(f"\n{alarms:.1%} false alarms\n\n{table(rows, alarms)}")
    for bar in report["bars"]:
        if not bar["reached"]:
            print(
                f"missed: {bar['method']}, {bar['event']}, SNR {bar['snr']}, {bar['alarms']:.1%} false alarms: "
                f"{bar['ahead']:+.1%} +- {bar['error']:.1%}"
            )
    draw(found, options.output / "event_roc.png")


if __name__ == "__main__":
    main()
