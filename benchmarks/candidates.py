"""Candidates for the architecture of `live`, trained alike: quality, cost, memory.

    python benchmarks/candidates.py [--processor-minutes 5] [--movies 24] [--only NAME ...] --output FILE.json

All begin from random weights and learn from the same simulated movies in the same processor time with the same seed;
they are scored on the simulated test movies, which nothing is trained on. The cost is that of a frame of 256 x 256
with ONNX Runtime on one thread beside one 64 -> 64 3 x 3 torch convolution (`cost_ratio.py`). The memory is what one
stream of 512 x 512 keeps between frames: features, flows and averages. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _provenance import write_results
from cost_ratio import units
from cpu_backends import frame_seconds
from guided import FRAMES, measured, training_movies
from torch import Tensor, nn
from torch.nn import functional

from denoscope.export import export_bundle
from denoscope.runtime import Bundle
from denoscope.train import FitSettings, LiveNet, LiveNetSettings, fit, load_flow
from denoscope.train.data.sampling import CELL
from denoscope.train.fitting.methods import METHODS

TESTS = (
    "two-photon",
    "two-photon-moving",
    "one-photon-dim",
    "moving-cells",
    "confocal",
    "confocal-row-noise",
)


class Shifted(LiveNet):
    """Neighbours mixed by temporal shift (Lin et al. 2019; buffers as in BSVD, Qi et al. 2022).

    Two convolutions over each neighbour's features, in each of which a quarter of the channels comes from the frame
    before and a quarter from the one after. The centre is hidden, as in every blind network, so the buffers of one
    centre serve no other.
    """

    def __init__(self, settings: LiveNetSettings | None = None, flow: Any = None) -> None:
        super().__init__(settings, flow)
        width = self.settings.encode_channels
        self.mixers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def look_around(self, features: Sequence[Tensor], present: Sequence[Tensor]) -> list[Tensor]:
        """Return the neighbours' features after two shifts."""
        centre, quarter = self.settings.window // 2, self.settings.encode_channels // 4
        there = [p if i != centre else torch.zeros_like(p) for i, p in enumerate(present)]
        x = [f[:, CELL:] * p for f, p in zip(features, there, strict=True)]
        for mixer in self.mixers:
            nothing = torch.zeros_like(x[0])
            before, after = [nothing, *x[:-1]], [*x[1:], nothing]
            x = [
                functional.relu(
                    mixer(torch.cat([b[:, :quarter], a[:, quarter : 2 * quarter], c[:, 2 * quarter :]], 1))
                )
                for b, c, a in zip(before, x, after, strict=True)
            ]
        return [f for i, f in enumerate(x) if i != centre]


class Recurrent(LiveNet):
    """Two states instead of a window (EMVD, Maggioni et al. 2021; FloRNN, Li et al. 2022).

    One gated state runs over the frames before the centre and one backwards over those after it; the trunk sees
    these two. Backwards, every centre needs a run of its own.
    """

    def __init__(self, settings: LiveNetSettings | None = None, flow: Any = None) -> None:
        super().__init__(settings, flow)
        s = self.settings
        rest = self.entry.in_channels - (s.window - 1) * s.encode_channels
        self.entry = nn.Conv2d(2 * s.encode_channels + rest, s.trunk_width, 1)
        self.step = nn.Conv2d(2 * s.encode_channels, 2 * s.encode_channels, 3, padding=1)

    def look_around(self, features: Sequence[Tensor], present: Sequence[Tensor]) -> list[Tensor]:
        """Return the state before the centre and the one after it."""
        centre = self.settings.window // 2
        learned = [f[:, CELL:] for f in features]
        ahead = range(len(learned) - 1, centre, -1)
        return [self._run(learned, present, order) for order in (range(centre), ahead)]

    def _run(self, learned: Sequence[Tensor], present: Sequence[Tensor], order: Sequence[int]) -> Tensor:
        state = torch.zeros_like(learned[0])
        for i in order:
            gate, new = self.step(torch.cat([state, learned[i]], 1)).chunk(2, 1)
            gate = torch.sigmoid(gate) * present[i]
            state = (1 - gate) * state + gate * torch.tanh(new)
        return state


@dataclass(frozen=True)
class Candidate:
    """One network to be compared."""

    name: str
    shape: LiveNetSettings
    build: Callable[..., LiveNet] = LiveNet
    why: str = ""


CANDIDATES = (
    Candidate("live", LiveNetSettings(), why="window 7, look-ahead 3, memory 4 to 256 frames, one stage"),
    Candidate("window 3", LiveNetSettings(window=3, look_ahead=1)),
    Candidate("window 15", LiveNetSettings(window=15, look_ahead=3)),
    Candidate("window 31", LiveNetSettings(window=31, look_ahead=3)),
    Candidate("short memory", LiveNetSettings(memory_decay=(4.0,)), why="one average of 4 frames"),
    Candidate("rings only", LiveNetSettings(blind_depth=0), why="no deep view of the current frame"),
    Candidate("narrow", LiveNetSettings.preset("fast", second_width=0)),
    Candidate("wide", LiveNetSettings.preset("hq", guided=False, second_width=0)),
    Candidate("flow", LiveNetSettings(guided=True), why="neighbours warped along the flow"),
    Candidate("temporal shift", LiveNetSettings(), Shifted, why="BSVD"),
    Candidate("recursion", LiveNetSettings(), Recurrent, why="EMVD, FloRNN"),
    Candidate("two stages", LiveNetSettings(second_width=24), why="blind, then with the frame; as shipped"),
)


def cost_units(network: LiveNet) -> float:
    """Return a frame's cost at 256 x 256, ONNX Runtime, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        bundle: Bundle = export_bundle(
            network, Path(folder) / "candidate.denoscope", name="candidate", trained_on=[]
        )
        unit = units(1)["contiguous_s"]
        seconds = frame_seconds(bundle, "onnxruntime-cpu", 256, 10, threads=1)
        return seconds / min(unit, units(1)["contiguous_s"])


def state_bytes(s: LiveNetSettings, size: int = 512) -> int:
    """Return what a stream keeps between frames."""
    cells = (size // 2) ** 2
    slots = s.window // 2 + s.look_ahead + 1
    flows = slots * 2 * (size // 4) ** 2 if s.guided else 0
    return 4 * (slots * s.feature_channels * cells + 2 * s.memory_channels * cells + flows)


def main() -> None:
    """Train, measure and print what is missing in the output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processor-minutes", type=float, default=5)
    parser.add_argument("--movies", type=int, default=24)
    parser.add_argument("--precision", choices=["32", "bf16-mixed"], default="bf16-mixed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="names of candidates")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = {
        "processor_minutes": options.processor_minutes,
        "movies": options.movies,
        "precision": options.precision,
        "seed": options.seed,
        "frames": FRAMES,
    }
    report: dict[str, Any] = {**setting, "candidates": {}}
    if options.output.exists():
        report = json.loads(options.output.read_text(encoding="utf-8"))
        if any(report[key] != value for key, value in setting.items()):
            parser.error(f"{options.output} holds a run with other settings: name another --output.")
    movies = training_movies(options.movies, options.seed)
    for candidate in CANDIDATES:
        if candidate.name in report["candidates"] or (options.only and candidate.name not in options.only):
            continue
        method = f"live: {candidate.name}"
        METHODS[method] = replace(METHODS["live"], name=method, build=candidate.build)
        result = fit(
            movies,
            method=method,
            settings=FitSettings(
                processor_minutes=options.processor_minutes,
                seed=options.seed,
                stop_after=None,
                simulated_hold_out=0.1,
                precision=options.precision,
            ),
            network=candidate.shape,
            flow=load_flow(passes=1) if candidate.shape.guided else None,
        )
        network = result.network.eval()
        report["candidates"][candidate.name] = {
            "why": candidate.why,
            "parameters": sum(p.numel() for p in network.parameters()),
            "steps": result.steps,
            "score": result.score_after,
            "psnr_db": {test: measured(network, test) for test in TESTS},
            "cost": cost_units(network),
            "state_bytes": state_bytes(candidate.shape),
        }
        write_results(options.output, report, (), indent=1)
        print(f"{candidate.name} done", flush=True)
    print(table(report["candidates"]))


def table(candidates: dict[str, Any]) -> str:
    """Return the table as markdown."""
    lines = [
        f"| | parameters | steps | held-out score | cost | state, MB | {' | '.join(TESTS)} | mean |",
        "|---|---|---|---|---|---|" + "---|" * (len(TESTS) + 1),
    ]
    for name, row in candidates.items():
        values = [row["psnr_db"][test] for test in TESTS]
        psnr = " | ".join(f"{value:.1f}" for value in values)
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['steps']} | {row['score']:.4f} | {row['cost']:.2f} "
            f"| {row['state_bytes'] / 1e6:.0f} | {psnr} | {sum(values) / len(values):.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
