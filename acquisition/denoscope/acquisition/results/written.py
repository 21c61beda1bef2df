"""Movies that were written after a recording."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from denoscope.runtime import GuardFinding

from .provenance import BundleSwap, NoiseCheck, Provenance
from .record import Record
from .report import SourceRecord
from .watching import TracesRecord

__all__ = ["Denoising", "Filling", "MovieProvenance"]


class MovieProvenance(Provenance):
    """Origin of a movie that was denoised after it was recorded.

    Attributes
    ----------
    movie
        Name of the file; None where a run was filled.
    first_frame
        Number in the file of the first frame that was denoised.
    chunk_frames, warm_up_frames
        Frames of a chunk, and frames before it that its stream takes first.
    run, started_utc
        Of the session that was filled.
    frames_kept_from_live, frames_computed_afterwards
        Frames as they were denoised live, and frames computed now.
    backend_live
        Backend of the session.
    swaps
        Changes of the bundle in mid-run; each computed frame is by the bundle that was in use for it.
    """

    movie: str | None = None
    first_frame: int | None = None
    chunk_frames: int | None = None
    warm_up_frames: int | None = None
    run: str | None = None
    started_utc: str | None = None
    frames_kept_from_live: int | None = None
    frames_computed_afterwards: int | None = None
    backend_live: str | None = None
    swaps: list[BundleSwap] = Field(default_factory=list)


class _Written(Record):
    """A movie that was written after the recording."""

    schema_version: int = 2
    output: Path
    frames: int
    frame_s: float
    notes: list[str] = Field(default_factory=list)
    guard: GuardFinding = Field(default_factory=GuardFinding)
    untrue: str | None = None
    denoiser: MovieProvenance


class Denoising(_Written):
    """Result of `denoscope.acquisition.denoise_movie`.

    Attributes
    ----------
    output, std
        Files that were written.
    frames, frame_s, resumed_from
        Frames in it, mean time a frame in seconds, and frames that were there already.
    traces, picture
        Traces of regions, and the picture before and after, that were written; None where none was.
    source
        Pixel size, frame rate, channel and more of the movie, as its file tells them.
    notes, movie_note
        Sentences for the user; what is worth knowing of how the movie was opened, empty for nothing.
    noise
        Noise of the movie; None where it is too short to be measured.
    guard, untrue
        Denoised frames that part from the measured ones, and a sentence where they are not to be trusted, else None.
    denoiser
        Origin of the denoised frames.
    incomplete
        Sentences that say which frames of a recording its movie lacks; empty where it is whole.
    """

    std: Path | None = None
    resumed_from: int = 0
    movie_note: str = ""
    traces: TracesRecord | None = None
    picture: Path | None = None
    source: SourceRecord = Field(default_factory=SourceRecord)
    noise: NoiseCheck | None = None
    incomplete: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every frame is there and to be trusted."""
        return self.untrue is None and not self.incomplete


class Filling(_Written):
    """Result of `denoscope.acquisition.fill_run`.

    Attributes
    ----------
    output, frames, frame_s, notes, guard, untrue, denoiser
        As of `Denoising`.
    kept, computed, missing
        Frames as they were denoised live, frames computed now, and frames whose shape disagreed with their tags.
    incomplete
        Sentences that say what is missing of the raw recording; empty where it is whole.
    """

    kept: int
    computed: int
    missing: int
    incomplete: list[str] = Field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True where every frame is there and to be trusted."""
        return self.untrue is None and not self.incomplete
