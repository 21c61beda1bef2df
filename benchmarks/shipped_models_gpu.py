"""Go on with the training of the three shipped bundles, all on one GPU and on the same windows.

    python benchmarks/shipped_models_gpu.py DATA --minutes 6 --output DIR [--workers 12] [--windows 32]

They learn from simulated scenes that no other step shows (`scene_stream`) and from the training part of the real
movies, as with shipped_model.py. Afterwards the averages of the new weights with those that training began with
(Wortsman et al. 2022) are compared on scenes that were never trained on. DIR receives NAME.safetensors, the new
weights, and training.json: the course of the losses, and for each share of the new weights the error in dB below
that of the start and the share of the truth within the predicted intervals. Then

    python benchmarks/shipped_model.py DATA --size SIZE --from NAME --weights DIR/NAME.safetensors --blend SHARE

writes the bundle. DATA needs the real movies only.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _provenance import write_results
from scene_stream import SceneStream, StreamSettings
from shipped_model import KINDS, NAMES, real_movies
from torch import Tensor

from denoscope.export import load_network
from denoscope.runtime import Bundle
from denoscope.train import LiveNet
from denoscope.train.fitting.checkpoint import save_tensors
from denoscope.train.fitting.kept import copied
from denoscope.train.fitting.methods import method_named
from denoscope.train.networks.live.rehearsal import blended
from denoscope.train.networks.live.task import _predict, loss_of_batch

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
AVERAGE = 0.995  # of the weights, a step
PIECE = 128  # windows that are judged at once
JUDGING_S = 12.0

Weights = dict[str, Tensor]


class Learner:
    """One bundle's network with its optimiser and the running average of its weights."""

    def __init__(self, name: str, device: str) -> None:
        network = load_network(Bundle.load(name))
        assert isinstance(network, LiveNet)
        self.name, self.start = name, copied(network.to(device).state_dict())
        if network.flow is not None:
            network.flow.requires_grad_(requires_grad=False)
        self.network = network.to(memory_format=torch.channels_last).train()
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = method_named("live").optimizer(trained, 1e-3)
        self.average = copied(self.start)
        self.losses: list[float] = []

    def step(self, batch: tuple[Tensor, ...], rate: float, number: int) -> Tensor:
        """Take one step and return its loss, which is still being computed."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of_batch(self.network, *batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        state = self.network.state_dict()
        keep = min(AVERAGE, (number + 1) / (number + 10))
        torch._foreach_lerp_(list(self.average.values()), [state[k] for k in self.average], 1 - keep)
        return loss.detach()

    def blended(self, share: float) -> Weights:
        """Return the average of the new weights, `share` of it, with those of the start."""
        return blended(self.start, self.average, 1 - share)


def main() -> None:
    """Train until the time is over, judge, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundles", nargs="+", default=list(NAMES.values()))
    parser.add_argument("--minutes", type=float, default=6.0, help="of the clock, the first scenes included")
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--windows", type=int, default=32, help="of each process in a batch")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--held-out", type=int, default=3, help="scenes of each process to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    began = time.perf_counter()
    # Sums of convolutions alone: places in a picture need all the bits they have.
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(options.seed)
    torch.set_num_threads(2)  # the processor is for the scenes
    options.output.mkdir(parents=True, exist_ok=True)
    settings = StreamSettings(
        network=shared(options.bundles),
        kinds=KINDS,
        real=partial(real_movies, options.data),
        workers=options.workers,
        windows=options.windows,
        held_out=options.held_out,
        seed=options.seed,
    )
    with SceneStream(settings, options.device) as stream:
        learners = [Learner(name, options.device) for name in options.bundles]
        batches = iter(stream)
        held_out = [next(batches) for _ in range(options.held_out)]
        first = time.perf_counter()
        print(f"first scenes after {first - began:.0f} s", flush=True)
        report: dict[str, Any] = {"before": judged(learners, held_out, (0.0,))}
        end = began + 60 * options.minutes - JUDGING_S
        first, number, said = time.perf_counter(), 0, 0.0
        while (now := time.perf_counter()) < end:
            done = (now - first) / (end - first)
            rate = options.learning_rate * min(1.0, done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
            batch = next(batches)
            losses = [learner.step(batch, rate, number) for learner in learners]
            number += 1
            if number % 20 == 0:
                for learner, loss in zip(learners, losses, strict=True):
                    learner.losses.append(float(loss))
            if now - said > 15:
                said = now
                scenes = sum(count.value for count in stream.scenes)
                recent = {
                    x.name: round(sum(x.losses[-10:]) / max(len(x.losses[-10:]), 1), 3) for x in learners
                }
                print(f"{done:.0%}, step {number}, {scenes} scenes, loss {recent}", flush=True)
                for learner in learners:
                    save_tensors(options.output / f"{learner.name}.safetensors", learner.average, {})
        spent = time.perf_counter() - first
        scenes = sum(count.value for count in stream.scenes)
        for learner in learners:
            save_tensors(options.output / f"{learner.name}.safetensors", learner.average, {})
        report |= {
            "after": judged(learners, held_out, SHARES),
            "steps": number,
            "windows": settings.workers * settings.windows,
            "scenes": scenes - settings.workers * settings.held_out,
            "seconds": spent,
            "seed": options.seed,
            "learning_rate": options.learning_rate,
            "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
            "torch": torch.__version__,
            "losses": {learner.name: learner.losses for learner in learners},
        }
    write_results(options.output / "training.json", report, options.bundles, indent=1)
    print(f"{number} steps of {report['windows']} windows, {report['scenes']} scenes in {spent:.0f} s")
    for name, rows in report["after"].items():
        for row in rows:
            print(name, row, flush=True)


def shared(bundles: list[str]) -> Any:
    """Return the settings that decide what a window holds, which must be the same for all."""
    found = []
    for name in bundles:
        network = load_network(Bundle.load(name))
        assert isinstance(network, LiveNet)
        found.append(network.settings)
    drawn = {(s.window, s.look_ahead, s.memory_decay, s.subpixel) for s in found}
    if len(drawn) > 1:
        sys.exit(f"{', '.join(bundles)} do not read the same windows ({drawn}): train them one by one.")
    return found[0]


@torch.inference_mode()
def judged(
    learners: list[Learner], held_out: list[tuple[Tensor, ...]], shares: tuple[float, ...]
) -> dict[str, list[dict[str, float]]]:
    """Return for each share of the new weights the mean error over windows in dB, and what the intervals cover."""
    found: dict[str, list[dict[str, float]]] = {}
    for learner in learners:
        mine = copied(learner.network.state_dict())
        learner.network.eval()
        for share in shares:
            learner.network.load_state_dict(learner.blended(share))
            errors, inside = [], []
            for batch in held_out:
                for at in range(0, len(batch[0]), PIECE):
                    *seen, clean, _ = (tensor[at : at + PIECE] for tensor in batch)
                    p = _predict(learner.network, *seen)
                    ratio = (clean - p.mean).abs() / p.variance.sqrt()
                    errors.append(((clean - p.mean) / p.sigma).square().mean((1, 2, 3)))
                    inside.append(
                        torch.stack([(ratio < z).float().mean((1, 2, 3)) for z in (0.99446, 1.95996)])
                    )
            error, covered = torch.cat(errors), torch.cat(inside, 1)
            found.setdefault(learner.name, []).append(
                {
                    "share": share,
                    "error_db": float(10 * torch.log10(error + 1e-6).mean()),
                    "covered_68": float(covered[0].mean()),
                    "covered_95": float(covered[1].mean()),
                    "windows_68_within_5": float(((covered[0] - 0.68).abs() < 0.05).float().mean()),
                }
            )
        learner.network.load_state_dict(mine)
        learner.network.train()
    return found


if __name__ == "__main__":
    main()
