"""``clean_picture.png``: a recorded movie before and after, on one page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.acquisition.errors import one_line
from denoscope.runtime import open_movie

from .outputs import stem_of
from .places import COLOURS, SIDE, draw_scale_bar, pick_places, trace_at

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie

__all__ = ["draw_before_after", "picture_name", "picture_or_why"]

_MOST_FRAMES = 300
_MOST_PIXELS = 16_000_000  # of each movie, so that large frames take no more memory than small ones
_LEAST_FRAMES = 10  # of a trace
_TRACES = 2
_Movie = npt.NDArray[np.float32]


def picture_name(output: Path) -> Path:
    """Return the file for the picture beside a denoised movie: ``clean.ome.tif`` has ``clean_picture.png``."""
    return output.with_name(f"{stem_of(output)}_picture.png")


def picture_or_why(output: Path, raw: AnyMovie, **settings: Any) -> tuple[Path | None, str | None]:
    """Draw the picture beside a denoised movie; return its path, or None and a sentence that says why not.

    A picture is an extra: the denoised movie is complete without it, so nothing is raised.

    Parameters
    ----------
    output
        The denoised movie; a picture that exists already stays as it is.
    raw, settings
        As for `draw_before_after`.
    """
    path = picture_name(output)
    if path.exists() or path.is_symlink():
        return None, f"{path.name} was there already and was left as it is"
    try:
        draw_before_after(path, raw, open_movie(output), **settings)
    except ImportError as error:
        remedy = 'install it with: python -m pip install ".[report]"'
        return None, f"{path.name} was not drawn ({error}); {remedy}"
    except Exception as error:  # noqa: BLE001  the movie is there; a picture must not hide that
        path.unlink(missing_ok=True)
        return None, f"{path.name} was not drawn ({type(error).__name__}: {one_line(error)})"
    return path, None


def draw_before_after(
    path: Path,
    raw: AnyMovie,
    denoised: AnyMovie,
    *,
    title: str,
    first: int = 0,
    pixel_size_m: float | None = None,
    units: str = "counts",
) -> None:
    """Draw one frame raw, denoised, and what was taken away, and the traces of two places.

    Parameters
    ----------
    path
        PNG to write.
    raw, denoised
        (T, H, W) in the same units. At most 300 frames in the middle are read, fewer of large frames.
    title
        Line above the pictures.
    first
        Number in the file of the first frame.
    pixel_size_m
        For the scale bar, in metres; None for a bar in pixels.
    units
        Of the pixels.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    length = min(len(raw), len(denoised))
    count = max(1, min(length, _MOST_FRAMES, _MOST_PIXELS // (raw.shape[1] * raw.shape[2])))
    start = (length - count) // 2
    noisy, clean = (_read(movie, start, count) for movie in (raw, denoised))
    middle = count // 2
    before, after = noisy[middle], clean[middle]
    places = pick_places(clean.mean(0), clean.std(0))[:_TRACES] if count >= _LEAST_FRAMES else []
    figure = Figure(figsize=(13, 4.9 + 1.4 * len(places)), layout="constrained")
    grid = figure.add_gridspec(1 + len(places), 3, height_ratios=(4, *[1] * len(places)))
    low, high = (float(value) for value in np.percentile(before, (1, 99.7)))
    taken = before - after
    spread = max(float(np.percentile(np.abs(taken), 99)), 1e-6)
    panels = (
        ("raw", before, "gray", low, max(high, low + 1e-6)),
        ("denoised, same contrast", after, "gray", low, max(high, low + 1e-6)),
        ("taken away: should be grain only, more where bright", taken, "RdBu_r", -spread, spread),
    )
    for column, (name, image, colours, bottom, top) in enumerate(panels):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(image, cmap=colours, vmin=bottom, vmax=top, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
        if column < len(panels) - 1:
            draw_scale_bar(axes, before.shape, pixel_size_m)
            for (row, col), colour in zip(places, COLOURS, strict=False):
                axes.plot(col, row, "s", mfc="none", mec=colour, ms=7)
    numbers = first + start + np.arange(count)
    for index, ((row, col), colour) in enumerate(zip(places, COLOURS, strict=False)):
        axes = figure.add_subplot(grid[1 + index, :])
        axes.plot(numbers, trace_at(noisy, row, col), color="0.7", lw=0.8, label="raw")
        axes.plot(numbers, trace_at(clean, row, col), color=colour, lw=1.4, label="denoised")
        kind = "dim place, " if index == 0 and len(places) > 1 else ""
        axes.set_title(
            f"{kind}mean of {SIDE} x {SIDE} pixels at row {row}, column {col}", fontsize=9, loc="left"
        )
        axes.set_ylabel(units, fontsize=8)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.legend(
            fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.1
        )
        if index == len(places) - 1:
            axes.set_xlabel("frame", fontsize=8)
    shown = f"frame {first + start + middle}"
    figure.suptitle(f"{title}: {shown}", fontsize=11, parse_math=False)  # a name may hold dollar signs
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # letters of a name that the font has not
        figure.savefig(path, dpi=100)


def _read(movie: AnyMovie, start: int, count: int) -> _Movie:
    """Return frames as float32; what holds no number is zero."""
    frames: _Movie = np.stack([np.asarray(movie[index], np.float32) for index in range(start, start + count)])
    frames[~np.isfinite(frames)] = 0
    return frames
