"""Sources of frames, as a table: what the user names, and the module that serves it."""

from __future__ import annotations

import re
from pathlib import Path

from denoscope.acquisition._movie import Movie, demo_movie
from denoscope.runtime import InvalidInput

from ._base import Source

__all__ = ["Source", "open_source"]

_ADDRESS = re.compile(r"(?P<host>[^\s:/\\]{2,}|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


def open_source(
    core: str,
    *,
    movie: Movie | None = None,
    fps: float = 30.0,
    frames: int | None = None,
    mm_dir: Path | None = None,
    buffer_mb: int = 512,
    idle_s: float = 10.0,
) -> Source:
    """Return the source that `core` names; it still has to be opened.

    Parameters
    ----------
    core
        ``demo`` (a movie replayed through a core in this process), ``HOST:PORT`` (a running
        Micro-Manager) or ``FILE.cfg`` (a headless core with that configuration).
    movie
        What ``demo`` replays; None for the movie that ships with the package.
    fps
        Frames per second of ``demo``.
    frames
        How many frames ``demo`` replays; None for no end.
    mm_dir
        Folder with the adapters for ``FILE.cfg``; None for those of ``mm-test-adapters``.
    buffer_mb
        Size of the core's circular buffer in MB (of 1,048,576 bytes).

    Raises
    ------
    InvalidInput
        When `core` is none of the three.
    """
    if core == "demo":
        from ._replay import ReplaySource

        return ReplaySource(movie or demo_movie(), fps=fps, frames=frames, buffer_mb=buffer_mb)
    if core.lower().endswith(".cfg"):
        from ._config import ConfigSource

        return ConfigSource(Path(core), mm_dir=mm_dir, buffer_mb=buffer_mb)
    address = _ADDRESS.fullmatch(core)
    if address and 0 < int(address["port"]) < 2**16:
        from ._bridge import BridgeSource

        return BridgeSource(address["host"].strip("[]"), int(address["port"]), buffer_mb=buffer_mb)
    raise InvalidInput(
        f"--core {core} is not known: it is 'demo', HOST:PORT of a running Micro-Manager, or a FILE.cfg."
    )
