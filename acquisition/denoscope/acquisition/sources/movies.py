"""Movies to replay: the one that ships with the package, and the user's TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

__all__ = ["Movie", "demo_movie", "read_movie"]

_DEMO = "data/demo_2p_gcamp.npz"


@dataclass(frozen=True)
class Movie:
    """A movie in memory.

    Attributes
    ----------
    frames
        ``(T, H, W)`` uint8 or uint16.
    name
        File name or ``demo_2p_gcamp``.
    note
        Where it comes from, in one sentence.
    pixel_size_um
        Edge of a pixel in micrometres, or None where unknown.
    """

    frames: npt.NDArray[Any]
    name: str
    note: str
    pixel_size_um: float | None = None


def demo_movie() -> Movie:
    """Return the real two-photon movie that ships with the package, ``(T, H, W)`` uint16.

    Stored as one byte a pixel and a table of the 16-bit intensity each byte stands for.

    Returns
    -------
    Movie
        150 frames of 200 x 200 pixels, and where they come from.

    Examples
    --------
    >>> movie = demo_movie()
    >>> movie.frames.shape, str(movie.frames.dtype)
    ((150, 200, 200), 'uint16')
    """
    with (
        resources.files("denoscope.acquisition").joinpath(_DEMO).open("rb") as file,
        np.load(file, allow_pickle=False) as data,
    ):
        return Movie(data["levels"][data["codes"]], "demo_2p_gcamp", str(data["note"]))


def read_movie(path: Path | str, **choice: Any) -> Movie:
    """Read a movie into memory.

    Parameters
    ----------
    path
        Movie of any format that `denoscope.runtime.open_movie` opens.
    choice
        Keywords ``channel``, ``plane``, ``position``, ``interleaved`` and ``axes`` of that function.

    Returns
    -------
    Movie
        Its frames ``(T, H, W)``, uint8 or uint16.

    Raises
    ------
    InvalidInput
        When the file is missing, not a TIFF, damaged, or not a stack of 8- or 16-bit frames.

    Examples
    --------
    >>> read_movie(Path("movie.tif")).frames.shape
    (24, 48, 56)
    """
    from denoscope.runtime import open_movie

    path = Path(path)
    frames: npt.NDArray[Any] = np.asanyarray(open_movie(path, mapped=False, **choice))
    if frames.dtype == np.int16 and frames.min() >= 0:
        frames = frames.astype(np.uint16)
    if frames.dtype not in (np.uint8, np.uint16):
        raise InvalidInput(
            f"the movie {path} is {frames.dtype}, and a camera sends uint8 or uint16; convert it without "
            "negative values."
        )
    return Movie(frames, path.name, f"read from {path}")
