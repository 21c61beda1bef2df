"""Pixel size, times and channel of a recorded movie, from ``raw.jsonl`` or the file's own metadata."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from denoscope.acquisition.contracts import Tags
from denoscope.acquisition.errors import one_line
from denoscope.acquisition.raw.sidecar import DamagedSidecar
from denoscope.acquisition.raw.writer import RAW_MOVIE, RAW_SIDECAR, read_raw
from denoscope.acquisition.sources.part import WHOLE, Part
from denoscope.runtime import InvalidInput, counted
from denoscope.runtime.movies.headers.facts import Facts, told
from denoscope.runtime.movies.headers.units import in_micrometres, in_seconds

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie

__all__ = ["MovieAbout", "about_movie", "checked_run", "movie_of"]

_MOST_TIMES = 5000  # frames whose times are read one by one
_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_OME = (".companion.ome", ".ome.xml")


@dataclass(frozen=True)
class MovieAbout:
    """Facts about a movie; None where the movie does not give them.

    Attributes
    ----------
    pixel_size_um, exposure_s, channel
        As for `SourceInfo`.
    increment_s
        Seconds from one frame to the next.
    times_s
        Seconds of each frame since the first one.
    objective
        Name of the objective.
    """

    pixel_size_um: float | None = None
    exposure_s: float | None = None
    channel: str | None = None
    increment_s: float | None = None
    times_s: tuple[float, ...] | None = None
    objective: str | None = None

    def of_frames(self, frames: range) -> MovieAbout:
        """Return the facts of some of the frames, by their numbers."""
        times = self.times_s
        if times is None or len(times) == len(frames):
            return self
        cut = times[frames.start : frames.stop]
        return replace(self, times_s=_from_zero(list(cut), len(frames)))


def movie_of(path: Path) -> Path:
    """Return the movie that a user means: ``raw.tif`` of a run folder, else the path itself.

    Raises
    ------
    InvalidInput
        Where a run folder has no ``raw.tif``.
    """
    if (path / RAW_MOVIE).is_file():
        return path / RAW_MOVIE if (path / RAW_SIDECAR).is_file() else path
    if (path / RAW_SIDECAR).is_file():
        raise InvalidInput(
            f"{path} is the folder of a recording, and its {RAW_MOVIE} is missing: nothing can be denoised without the "
            "raw frames; put it back, or name another movie."
        )
    return path


def checked_run(movie: Path, frames: int) -> tuple[list[str], str | None]:
    """Return what a recording's movie lacks, and a note where its ``raw.jsonl`` cannot be used.

    Parameters
    ----------
    movie
        Any movie; of one that is no recording nothing is said.
    frames
        How many frames it holds.
    """
    if movie.name != RAW_MOVIE or not movie.with_name(RAW_SIDECAR).exists():
        return [], None
    try:
        listed = read_raw(movie.parent).lines
    except DamagedSidecar as error:
        return [], f"{RAW_SIDECAR} {error.why}: times and pixel size of the recording are not kept"
    except (InvalidInput, OSError, LookupError, TypeError, ValueError) as error:
        what = one_line(error).removeprefix(f"{movie.parent / RAW_SIDECAR} ")
        return [], f"{RAW_SIDECAR} is damaged ({what}): times and pixel size of the recording are not kept"
    if listed <= frames:
        return [], None
    return [
        f"{RAW_SIDECAR} lists {counted(listed, 'frame')}, of which {movie.name} lacks {listed - frames}"
    ], None


def about_movie(path: Path, frames: int, part: Part = WHOLE, movie: AnyMovie | None = None) -> MovieAbout:
    """Return what a movie says about itself; what cannot be read is left out.

    Parameters
    ----------
    path
        The movie.
    frames
        How many frames are read of it; times of another number of frames are left out.
    part
        Channel, plane and position that are read, where the movie has several.
    movie
        The opened movie, whose format may tell more.
    """
    from denoscope.runtime.movies.folders.told_beside import facts_beside

    found = MovieAbout()
    with suppress(Exception):  # metadata of any program: what cannot be understood is no reason to stop
        if path.name == RAW_MOVIE and path.with_name(RAW_SIDECAR).is_file():
            return _of_run(path.parent, frames)
        if path.name.lower().endswith((*_TIFF, *_OME)) and path.is_file():
            found = _of_tiff(path, frames, part)
        elif path.is_dir() and (first := _first_tiff(path)) is not None:
            found = _of_tiff(first, frames, part)
    found = _joined(found, getattr(movie, "facts", None))
    beside = told(lambda: facts_beside(path, frames, part.channel, part.plane))
    return _joined(found, beside)


def _first_tiff(folder: Path) -> Path | None:
    """Return the first TIFF file of a folder of images; not in folders of other formats."""
    if (folder / "NDTiff.index").exists() or (folder / "zarr.json").exists():
        return None
    from denoscope.runtime.movies.folders.names import natural_order

    names = [p.name for p in folder.iterdir() if p.suffix.lower() in _TIFF and p.name[0] != "."]
    return folder / min(names, key=natural_order) if names else None


def _joined(about: MovieAbout, facts: Facts | None) -> MovieAbout:
    """Return what the file says, and where it says nothing, what the reader of its format found."""
    if facts is None:
        return about
    values = {field.name: getattr(about, field.name) for field in fields(about)}
    return MovieAbout(
        **{name: getattr(facts, name) if value is None else value for name, value in values.items()}
    )


def _of_run(run: Path, frames: int) -> MovieAbout:
    recording = read_raw(run)
    source = recording.header["source"]
    times = [time for each in recording.records if (time := each["core_unix_s"]) is not None]
    if len(times) < len(recording.records):
        times = [each["received_s"] for each in recording.records]
    rate, size_m = source.get("frame_rate_hz"), source.get("pixel_size_m")
    return MovieAbout(
        None if size_m is None else size_m * 1e6,
        source.get("exposure_s"),
        source.get("channel") or source.get("camera"),
        1 / rate if rate else _increment(times),
        _from_zero(times, frames),
    )


def _of_tiff(path: Path, frames: int, part: Part) -> MovieAbout:
    import tifffile

    from denoscope.runtime.movies.formats.tiff import head_of
    from denoscope.runtime.movies.headers.ome import ome_facts, read_companion

    if xml := read_companion(path) if path.name.lower().endswith(_OME) else head_of(path).ome:
        facts = ome_facts(xml, frames, channel=part.channel, plane=part.plane, position=part.position)
        return _joined(MovieAbout(), facts)
    if (found := told(lambda: _of_scanimage(path, frames, part))) is not None:
        return _joined(MovieAbout(), found)
    with tifffile.TiffFile(path) as tiff:
        about: Tags = dict(tiff.imagej_metadata or {})
        tag = tiff.pages.first.tags.get("XResolution")
        per_unit = 0.0 if tag is None else tag.value[0] / max(tag.value[1], 1)
    # Its `fps` is the speed at which ImageJ plays the movie, not the one at which it was recorded.
    facts = Facts(
        pixel_size_um=in_micrometres(1 / per_unit, about.get("unit", "")) if per_unit else None,
        increment_s=in_seconds(about.get("finterval"), about.get("tunit", "sec")),
    )
    return _joined(MovieAbout(), facts)


def _of_scanimage(path: Path, frames: int, part: Part) -> Facts | None:
    """Return what ScanImage's headers say, with the time of each frame where a file holds them all."""
    import tifffile

    from denoscope.runtime.movies.headers.pages_of import choose_pages, scanimage_turns
    from denoscope.runtime.movies.headers.scanimage import frame_time, scanimage_facts
    from denoscope.runtime.movies.pick import Wanted

    with tifffile.TiffFile(path, is_scanimage=False) as tiff:
        first = tiff.pages.first

        def description(page: int) -> str:
            return str(getattr(tiff.pages.get(page, aspage=True), "description", ""))

        turns = scanimage_turns(
            first.software,
            first.description,
            lambda page: description(page) if page < len(tiff.pages) else "",
        )
        if turns is None:
            return None
        facts = scanimage_facts(first.software, first.description, int(first.imagewidth))
        if frames > _MOST_TIMES:
            return facts
        wanted = Wanted(part.channel, part.plane, part.position)

        def times_of() -> list[float | None]:
            places, _ = choose_pages(str(path), turns, len(tiff.pages), wanted)
            return [frame_time(description(int(page))) for page in places] if len(places) == frames else []

        times = told(times_of)
    if not times or None in times:
        return facts
    timed = Facts(times_s=tuple(times))
    return replace(facts, times_s=timed.times_s, increment_s=facts.increment_s or timed.increment_s)


def _increment(times: list[float]) -> float | None:
    """Return the middle one of the times from frame to frame."""
    steps = sorted(after - before for before, after in pairwise(times))
    middle = steps[len(steps) // 2] if steps else 0.0
    return middle if middle > 0 else None


def _from_zero(times: list[float], frames: int) -> tuple[float, ...] | None:
    return tuple(time - times[0] for time in times) if times and len(times) == frames else None
