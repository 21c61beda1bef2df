"""Train the shipped flow network on simulated motion, and write it into the package.

    python benchmarks/shipped_flow.py --minutes 60

The committed weights came from 13 minutes on one thread of a busy processor, with the default seed, and 45 minutes more
from there (`--from FILE --minutes 45 --seed 7`). A training can be interrupted and continued with --resume.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file

from denoscope.train.flow.fit import FlowFitSettings, fit_flow

WEIGHTS = Path(__file__).parent.parent / "train" / "denoscope" / "train" / "weights" / "flow.safetensors"


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/flow.safetensors"))
    parser.add_argument("--from", dest="start", type=Path, help="weights to begin with")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with Progress() as bar:
        task = bar.add_task("training", total=1)
        result = fit_flow(
            arguments.checkpoint,
            settings=FlowFitSettings(minutes=arguments.minutes, seed=arguments.seed),
            start=load_file(arguments.start) if arguments.start else None,
            resume=arguments.resume,
            on_progress=lambda step, done, loss: bar.update(
                task, completed=done, description=f"training, step {step}, loss {loss:.3f}"
            ),
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in result.network.state_dict().items()}
    save_file(weights, arguments.output)
    print(
        f"{result.steps} steps in {result.seconds / 60:.0f} minutes; end-point error on held-out pairs "
        f"{result.error_px:.3f} px (no motion: {result.zero_px:.3f} px); wrote {arguments.output}"
    )


if __name__ == "__main__":
    main()
