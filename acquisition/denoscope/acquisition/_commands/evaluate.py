"""``denoscope evaluate``: how good a bundle is where the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoscope.acquisition._extras import require
from denoscope.acquisition._shell import DebugOption, JsonOption, QuietOption, Shell

if TYPE_CHECKING:
    from denoscope.train._evaluate import PairResult

__all__ = ["evaluate"]


def evaluate(
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json and the pictures.")],
    pair: Annotated[
        list[Path] | None,
        typer.Option(metavar="NOISY CLEAN", help="A noisy movie and its clean truth; may be repeated."),
    ] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Use the simulated test movie too.")] = False,
    bundle: Annotated[
        list[str] | None, typer.Option(help="Bundle (name or folder); may be repeated.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Backend's name, or auto.")] = "auto",
    at_least: Annotated[
        float | None,
        typer.Option(help="Exit with 1 unless every bundle beats the best tuned filter by so many dB."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Score bundles against truth, beside the noisy movie and the best filters tuned on the truth."""
    shell = Shell(json=json, quiet=quiet, debug=debug)

    def action() -> tuple[dict[str, Any], int]:
        require("skimage", extra="train", purpose="evaluation")
        from denoscope.runtime import Bundle, InvalidInput, open_movie
        from denoscope.train import test_movie
        from denoscope.train._evaluate import evaluate_pair, save_comparison

        if not pair and not simulated:
            raise InvalidInput("There is nothing to evaluate on: give --pair NOISY CLEAN, or --simulated.")
        bundles = [Bundle.load(b) for b in bundle or ["live"]]
        noisy_files, clean_files = (pair or [])[::2], (pair or [])[1::2]
        if len(noisy_files) != len(clean_files):
            raise InvalidInput(f"--pair {noisy_files[-1]} has no clean movie: give two files, NOISY CLEAN.")
        files = zip(noisy_files, clean_files, strict=True)
        sources = [(noisy.stem, open_movie(noisy), open_movie(clean)) for noisy, clean in files]
        if simulated:
            movie = test_movie()
            sources.append(("simulated test movie", movie.as_uint16(), movie.clean))
        output.mkdir(parents=True, exist_ok=True)
        results = []
        for name, noisy, clean in sources:
            with _bar(shell, f"{name}, {len(bundles)} bundle(s)", len(noisy)) as show:
                result = evaluate_pair(name, noisy, clean, bundles, backend=backend, on_frame=show)
            save_comparison(result, clean, output / f"{name.replace(' ', '_')}.png")
            _print_table(shell, result)
            results.append(result)
        margins = {r.name: {b.manifest.name: r.margin_db(b.manifest.name) for b in bundles} for r in results}
        report = {"pairs": [r.to_dict() for r in results], "margin_db": margins}
        (output / "evaluation.json").write_text(_dumps(report), encoding="utf-8")
        shell.say(f"Wrote {output / 'evaluation.json'} and a picture a movie beside it")
        least = min(m for movie in margins.values() for m in movie.values())
        if at_least is not None and least < at_least:
            shell.say(f"Below the bar: the least margin is {least:.2f} dB, {at_least:g} dB are asked for")
            return report, 1
        return report, 0

    shell.run(action)


def _dumps(report: dict[str, Any]) -> str:
    import json

    return json.dumps(report, indent=2)


def _bar(shell: Shell, title: str, total: int) -> Any:
    """Open a progress bar; the context gives a function to call with the number of frames done."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def opened() -> Any:
        with Progress(console=Console(file=shell.stream), disable=shell.quiet, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)

    return opened()


def _print_table(shell: Shell, result: PairResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=result.name, title_justify="left")
    for title in ("method", "setting", "PSNR (dB)", "PSNR at 99.9 % (dB)", "SSIM", "ms a frame"):
        table.add_column(title, justify="left" if title in ("method", "setting") else "right")
    for row in result.rows:
        s = row.score
        cost = "" if row.frame_s is None else f"{row.frame_s * 1e3:.1f}"
        table.add_row(
            row.method, row.setting, f"{s.psnr_db:.2f}", f"{s.psnr_p999_db:.2f}", f"{s.ssim:.4f}", cost
        )
    if shell.quiet:
        return
    Console(file=shell.stream, width=110).print(table)
    for name in result.coverage_68:
        shell.say(
            f"{name}: {result.margin_db(name):+.2f} dB to the best tuned filter; predicted intervals hold "
            f"{result.coverage_68[name]:.0%} (68 %) and {result.coverage_95[name]:.0%} (95 %) of the truth"
        )
