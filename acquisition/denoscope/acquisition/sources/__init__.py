"""Sources of frames, as a table: what the user names, and the module that serves it."""

from __future__ import annotations

import re
from pathlib import Path

from denoscope.runtime import InvalidInput

from .base import Source
from .micromanager.camera import AS_IT_IS, CameraChoice, parse_roi
from .movies import Movie, demo_movie
from .part import WHOLE, Part

__all__ = ["AS_IT_IS", "WHOLE", "CameraChoice", "Part", "Source", "open_source", "parse_roi"]

_ADDRESS = re.compile(r"(?P<host>[^\s:/\\]{2,}|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


def open_source(
    core: str,
    *,
    movie: Movie | None = None,
    fps: float = 30.0,
    frames: int | None = None,
    mm_dir: Path | str | None = None,
    buffer_mb: int = 512,
    idle_s: float = 10.0,
    part: Part = WHOLE,
    camera: CameraChoice = AS_IT_IS,
) -> Source:
    """Return the source that `core` names; it still has to be opened.

    Parameters
    ----------
    core
        ``demo`` (a movie replayed through a core in this process), ``HOST:PORT`` (a running
        Micro-Manager), ``FILE.cfg`` (a headless core with that configuration), ``replay:PATH`` (a recorded
        movie, without a core) or ``watch:PATH`` (a file or folder that other software is writing).
    movie
        What ``demo`` replays; None for the movie that ships with the package.
    fps
        Frames per second of ``demo`` and ``replay:PATH``.
    frames
        How many frames these replay; None for no end (``demo``) or the movie once (``replay:PATH``).
    mm_dir
        Folder with the adapters for ``FILE.cfg``; None for those of ``mm-test-adapters``.
    buffer_mb
        Size of the core's circular buffer in MB (of 1,048,576 bytes).
    idle_s
        Seconds without a new frame after which what ``watch:PATH`` names counts as finished.
    part
        Channel, plane and position of ``replay:PATH`` and ``watch:PATH``.
    camera
        Exposure, region and binning of the camera of ``FILE.cfg``.

    Returns
    -------
    Source
        To be opened with ``open``, armed with ``start`` and closed.

    Raises
    ------
    InvalidInput
        When `core` is none of these, or has no camera that denoscope drives and `camera` asks for something.

    Examples
    --------
    >>> source = open_source("replay:movie.tif", fps=100)
    >>> source.open().shape
    (48, 56)
    >>> source.close()
    """
    if not core.lower().endswith(".cfg"):
        camera.refuse(core)
    if core == "demo":
        if movie is None:
            part.refuse("`core` demo without `movie`")
        from .micromanager.replay import ReplaySource

        return ReplaySource(movie or demo_movie(), fps=fps, frames=frames, buffer_mb=buffer_mb)
    kind, _, place = core.partition(":")
    if kind == "replay" and place:
        from .file import FileSource

        return FileSource(Path(place), fps=fps, frames=frames, part=part)
    if kind == "watch" and place:
        from .growing.watch import WatchSource

        return WatchSource(Path(place), idle_s=idle_s, part=part)
    part.refuse(f"`core` {core}")
    if core.lower().endswith(".cfg"):
        from .micromanager.config import ConfigSource

        return ConfigSource(
            Path(core), mm_dir=None if mm_dir is None else Path(mm_dir), buffer_mb=buffer_mb, camera=camera
        )
    address = _ADDRESS.fullmatch(core)
    if address and 0 < int(address["port"]) < 2**16:
        from .micromanager.bridge import BridgeSource

        return BridgeSource(address["host"].strip("[]"), int(address["port"]))
    raise InvalidInput(
        f"`core` {core} is not known: it is 'demo', HOST:PORT of a running Micro-Manager, a FILE.cfg, "
        "replay:PATH or watch:PATH."
    )
