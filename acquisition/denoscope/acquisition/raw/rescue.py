"""Raw frames that the disk of a recording does not take, saved in a folder on another one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from denoscope.acquisition.contracts import Frame, SourceInfo
from denoscope.acquisition.errors import one_line
from denoscope.runtime import InvalidInput

from .disk import existing_parent
from .writer import RawWriter, numbered_names

__all__ = ["RESCUE_FOLDER", "Rescue", "check_place", "rescue_places"]

RESCUE_FOLDER = "denoscope-rescued"
"""Folder in the user's home folder, or else among the temporary files, for what no other disk was named for."""

_MOST = 1000


def rescue_places(named: Path | None, run: Path) -> list[Path]:
    """Return the folders that are tried, in this order: the named one, or home and temporary files.

    What lies on another disk than the run folder comes first, because a disk that hangs never lets the next one be
    tried. To be asked while the disk still answers.
    """
    if named is not None:
        return [named]
    places = []
    for find in (Path.home, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError, RuntimeError):  # nobody knows where that is
            places.append(find() / RESCUE_FOLDER)
    disk = _disk(run)
    return sorted(places, key=lambda place: disk is not None and _disk(place) == disk)


def _disk(folder: Path) -> int | None:
    """Return the number of the disk where a folder is or would be made; None where that is unknown."""
    try:
        return existing_parent(folder).stat().st_dev
    except OSError:
        return None


def check_place(folder: Path) -> None:
    """Refuse a folder that could save nothing, before anything is recorded; it is made when it is needed.

    Raises
    ------
    InvalidInput
        One sentence with the remedy.
    """
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:  # a drive may be missing
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "cannot be written" if place.is_dir() else "is no folder"
        raise InvalidInput(
            f"`rescue` {folder} could save no raw frame, because {place} {why}: name another folder."
        )


class Rescue:
    """A separate recording, made when the first frame has to be saved elsewhere.

    Parameters
    ----------
    run
        Run folder, whose name the new folder's begins with.
    source
        What the frames come from.
    version
        Version of denoscope.
    places
        Folders to try; the first that takes a frame is used.

    Attributes
    ----------
    folder
        Folder with ``raw.tif`` and ``raw.jsonl``; None before the first frame.
    written
        Frames that are saved there.
    problem
        Why no frame can be saved; None while they can.
    """

    def __init__(self, run: Path, source: SourceInfo, version: str, places: Sequence[Path]) -> None:
        self._name = run.absolute().name or "recording"
        self._source = source
        self._version = version
        self._places = list(places)
        self._writer: RawWriter | None = None
        self.folder: Path | None = None
        self.written = 0
        self.problem: str | None = None

    def append(self, frame: Frame) -> bool:
        """Save a frame; return whether it was."""
        if self.problem is not None:
            return False
        try:
            if self._writer is None:
                self._begin(frame)
            else:
                self._writer.append(frame)
        except Exception as error:  # noqa: BLE001  whoever lost one disk is told about the other
            self.problem = one_line(error)
            return False
        self.written += 1
        return True

    def _begin(self, frame: Frame) -> None:
        """Open the first place that takes the frame."""
        failures = list[str]()
        for place in self._places:
            folder: Path | None = None
            try:
                place.mkdir(parents=True, exist_ok=True)
                folder = self._new_folder(place)
                writer = RawWriter(folder, self._source, self._version)
                try:
                    writer.append(frame)
                except BaseException:
                    writer.close()
                    raise
            except Exception as error:  # noqa: BLE001  the next place may take it
                failures.append(f"{place}: {one_line(error)}")
                if folder is not None:  # ours, with no whole frame in it
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            self._writer, self.folder = writer, folder
            return
        raise OSError("; ".join(failures) or "no place is named")

    def _new_folder(self, place: Path) -> Path:
        for name in islice(numbered_names(f"{self._name}-rescued"), _MOST - 1):
            folder = place / name
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
        raise FileExistsError(f"{_MOST} folders like {self._name}-rescued are there already")

    def close(self) -> None:
        """Have the disk confirm the frames, and close; safe to call twice."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self.problem = self.problem or "it is closed"
        try:
            writer.sync()
        finally:
            writer.close()
