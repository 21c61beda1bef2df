"""``denoscope bundles``: which bundle to take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from denoscope.acquisition.cli.shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.acquisition.diagnostics.bundle_choice import BundleChoice

__all__ = ["bundles"]

_HEAD = f"{'bundle':<10} {'frames/s':>8} {'quality':>9} {'size':>8}  use it for"

_FEW = 3
"""Frames below which a measured rate is said to be uncertain."""


def bundles(
    measure: Annotated[
        bool, typer.Option(help="Measure the frame rate on this computer (about ten seconds).")
    ] = True,
    details: Annotated[
        bool, typer.Option("--details", help="Show method, training movies and every quality number.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show which bundle to take: use, speed on this computer, quality, size."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, object], int]:
        from denoscope.acquisition import describe_bundles

        shell.say(_HEAD)
        found = describe_bundles(
            measure=measure and not quiet, on_bundle=lambda bundle: shell.say(_row(bundle))
        )
        for line in _legend(found) if found else ["No bundle ships with this installation."]:
            shell.say(line)
        for line in _details(found) if details else []:
            shell.say(line)
        return {"schema_version": 2, "bundles": [each.as_json() for each in found]}, 0

    shell.run(action)


def _row(each: BundleChoice) -> str:
    rate = "-" if each.frames_per_s is None else _rate(each.frames_per_s)
    gain = "-" if each.quality_db is None else f"{each.quality_db:+.1f} dB"
    return f"{each.name:<10} {rate:>8} {gain:>9} {each.size_bytes / 1e6:>5.1f} MB  {each.use}"


def _legend(found: list[BundleChoice]) -> Iterator[str]:
    measured = [each for each in found if each.measured_with is not None]
    if measured:
        yield f"Frames/s: 256 x 256 pixels on this computer, measured now with {_backends(measured)}."
    fewest = min((each.frames_measured for each in measured), default=_FEW)
    if fewest < _FEW:
        from denoscope.runtime import counted

        yield (
            f"This computer is slow or busy: a rate is from {counted(fewest, 'frame')} only. When it is idle, "
            "run this again."
        )
    yield "Quality: PSNR above that of the best 3-D Gaussian filter, mean of simulated movies (--details)."
    yield "Four times the pixels take four times as long; a GPU is faster."
    yield "To measure your frame size: denoscope bench --size 512x512 --output speed"
    yield "To take one: add --bundle live-fast to live, denoise or demo; recorded is for denoise alone."


def _backends(measured: list[BundleChoice]) -> str:
    """Return the backends in words, with the bundles of each where there are several."""
    backends = dict.fromkeys(str(each.measured_with) for each in measured)
    if len(backends) == 1:
        return next(iter(backends))
    return " and ".join(
        f"{backend} ({', '.join(each.name for each in measured if each.measured_with == backend)})"
        for backend in backends
    )


def _rate(frames_per_s: float) -> str:
    """Return a frame rate with two digits or more, so that a slow computer does not read 0."""
    return f"{frames_per_s:.0f}" if frames_per_s >= 10 else f"{frames_per_s:.1f}"


def _without_history(training: str) -> str:
    """Return what a bundle was trained on, with the trainings of the bundle that it began from as a number."""
    from denoscope.runtime import counted

    told = "started from "
    begun = training.find("(")
    if not training.startswith(told) or begun < 0:
        return training
    depth, end = 0, len(training)
    for at in range(begun, len(training)):
        depth += (training[at] == "(") - (training[at] == ")")
        if depth == 0:
            end = at
            break
    before = counted(training.count(told, begun, end) + 1, "training")
    return f"{training[: begun + 1]}after {before}, see README.md in its folder{training[end:]}"


def _details(found: list[BundleChoice]) -> Iterator[str]:
    from denoscope.runtime import counted

    for each in found:
        yield ""
        yield (
            f"{each.name}: method {each.method}, window of {counted(each.window, 'frame')}, "
            f"look-ahead {each.look_ahead}, license {each.license}"
        )
        yield "  trained on:"
        for training in each.trained_on:
            yield f"    {_without_history(training)}"
        for record in each.quality:
            base = (
                ""
                if record.get("baseline") is None
                else f" ({record['baseline_name']}: {record['baseline']:.4g})"
            )
            yield f"  {record['movie']}, {record['metric']}: {record['value']:.4g}{base}"
