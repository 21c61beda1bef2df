"""Words between a session and its window: the place of the pictures, and the session's status."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["BoardWords", "ViewStatus"]


class BoardWords(TypedDict):
    """Memory in which the pictures lie, and the session that puts them there.

    Attributes
    ----------
    name, nbytes
        Of the memory; see `Board.follow`.
    shape, pixel_um
        Height and width of a frame in pixels, and the edge of a pixel; None where unknown.
    bundle, source, output
        Bundle, source and folder of the session.
    regions
        Whether the session measures regions.
    preview
        Whether nothing is saved.
    """

    name: str
    nbytes: int
    shape: list[int]
    bundle: str
    source: str
    output: str
    pixel_um: float | None
    regions: bool
    preview: bool


class ViewStatus(TypedDict):
    """Status of a session for its window.

    Attributes
    ----------
    count
        Statuses before this one, so that a window sees when none comes any more.
    state, message, elapsed_s, problems
        See `SessionStatus`; the reason in words, the last three problems.
    received, written_raw, emitted, dropped, missing
        Frames.
    keeps_raw, fills, preview
        Whether raw frames are written, whether skipped frames are computed at the end, and whether nothing is saved.
    fps_in, fps_out, latency_s
        Frames/s received and denoised, and percentiles of the delay.
    free_bytes, reserve_bytes, bytes_per_s
        Room on the disk (None where unknown), what must stay free, and what the recording takes a second.
    searching
        Whether regions are being searched.
    streams, source
        Names of the streams and of the source.
    """

    count: int
    state: str
    message: str | None
    elapsed_s: float
    received: int
    written_raw: int
    keeps_raw: bool
    fills: bool
    preview: bool
    emitted: int
    dropped: dict[str, int]
    missing: int
    fps_in: float
    fps_out: float
    latency_s: dict[str, float]
    problems: list[str]
    free_bytes: int | None
    reserve_bytes: float
    bytes_per_s: float
    searching: bool
    streams: list[str]
    source: str
