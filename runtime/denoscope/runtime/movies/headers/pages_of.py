"""Order of the pages of a file: channel, plane and time of each, as its header says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import one_line
from denoscope.runtime.movies.pick import Axis, Wanted, pick
from denoscope.runtime.words import counted

from .ome import page_turns
from .untrusted import check_xml

__all__ = ["Turns", "choose_pages", "interleaved", "page_axes", "scanimage_turns"]

_MOST = 4096
_LETTERS = {"T": "time", "C": "channel", "Z": "z", "P": "position", "R": "position"}  # of tifffile

PageAxes = Callable[[int, str], dict[str, int | str]]


@dataclass(frozen=True)
class Turns:
    """Pages that take turns: channel first, then the frames of a plane, the planes, and volumes in time.

    Attributes
    ----------
    channels, planes
        How many there are of each.
    repeats
        Frames of a plane before the next plane.
    flyback
        Frames at the end of each volume that show the scanner on its way back.
    start
        Frames of the acquisition (all channels of a frame count once) before the first page.
    names
        Names of the channels, empty where the file has none.
    zigzag
        True if every other volume goes through the planes backwards.
    regions
        True if each page shows several regions one below another.
    """

    channels: int
    planes: int = 1
    repeats: int = 1
    flyback: int = 0
    start: int = 0
    names: tuple[str, ...] = ()
    zigzag: bool = False
    regions: bool = False

    @property
    def single(self) -> bool:
        """Say whether every page is the next point in time."""
        return self.channels * self.planes == 1 and not self.flyback

    def table(self, pages: int) -> npt.NDArray[np.int64]:
        """Return (pages, 3): time, plane and channel of each page; plane -1 for flyback."""
        index = np.arange(pages, dtype=np.int64)
        frame, channel = np.divmod(index, self.channels)
        volume, inside = np.divmod(frame + self.start, self.planes * self.repeats + self.flyback)
        plane, repeat = np.divmod(inside, self.repeats)
        plane[plane >= self.planes] = -1
        if self.zigzag:
            back = (volume % 2 == 1) & (plane >= 0)
            plane[back] = self.planes - 1 - plane[back]
        return np.stack([volume * self.repeats + repeat, plane, channel], axis=1)

    def axes(self, index: int, number: int | None = None) -> dict[str, int | str]:
        """Return the axes of one page under the names that frames carry; empty where time is all there is.

        Parameters
        ----------
        index
            Of the page in its file.
        number
            Of its frame in the acquisition, from 1, if it says so: a file may have been written without flyback
            frames.
        """
        if self.single:
            return {}
        frame, channel = divmod(index, self.channels)
        frame = frame + self.start if number is None or not self.flyback else max(number - 1, 0)
        volume, inside = divmod(frame, self.planes * self.repeats + self.flyback)
        plane, repeat = divmod(inside, self.repeats)
        named = self.names[channel] if self.names else channel
        # Flyback frames of a growing file are kept too: as further planes, behind those of the sample.
        return {"time": volume * self.repeats + repeat, "z": plane, "channel": named}


def choose_pages(name: str, turns: Turns, pages: int, wanted: Wanted) -> tuple[npt.NDArray[np.int64], str]:
    """Return the pages of the wanted channel and plane in the order of time, and what to know of them.

    Raises
    ------
    InvalidInput
        If there are several and none was chosen, or there is no such one.
    """
    table = turns.table(pages)
    times = len(np.unique(table[table[:, 1] >= 0, 0]))
    axes = [
        Axis("time", times),
        Axis("plane", turns.planes),
        Axis("channel", turns.channels, turns.names),
    ]
    chosen = pick(name, axes, wanted)
    _, plane, channel = chosen
    taken = table[:, 1] >= 0
    if plane is not None:
        taken &= table[:, 1] == plane
    if channel is not None:
        taken &= table[:, 2] == channel
    places = np.flatnonzero(taken)
    places = places[np.lexsort((table[places, 1], table[places, 0]))]
    flyback = int((table[:, 1] < 0).sum())
    left_out = counted(flyback, "flyback frame is", "flyback frames are")
    note = f"{Path(name).name}: {left_out} left out" if flyback else ""
    if turns.regions:
        said = f"{Path(name).name} shows several regions one below another in each frame, as ScanImage saved them"
        note = "; ".join(filter(None, (note, said)))
    return places.astype(np.int64), "; ".join(filter(None, (chosen.note, note)))


def interleaved(count: int) -> Turns:
    """Return the turns of pages that alternate between so many channels."""
    return Turns(count)


def scanimage_turns(
    software: str, description: str, later: Callable[[int], str] = lambda _page: ""
) -> Turns | None:
    """Return how the pages of a ScanImage file take turns, or None where it is none.

    Knows the headers of ScanImage 2016 and later (``SI.``), 4 and 5 (``scanimage.SI``) and 3 (``state.acq``).

    Parameters
    ----------
    software, description
        The texts of the first page.
    later
        Gives the description of another page by its number, empty where there is none: it tells whether
        flyback frames are in the file.
    """
    description = description.replace("\r", "\n")  # the end of a line in ScanImage 3
    text = software if software.startswith("SI.") else description
    if text.startswith("SI.") or "scanimage.SI" in text:
        return _scanimage(text, description, later)
    if re.match(r"\s*state\.", description) and "state.acq." in description:
        return _scanimage_3(description)
    return None


def _scanimage(text: str, description: str, later: Callable[[int], str]) -> Turns:
    new = {
        match[1]: match[2].strip()
        for match in re.finditer(r"^(?:scanimage\.)?(SI\d*\.[\w.]+)\s*=\s*(.*)$", text, flags=re.MULTILINE)
    }

    def value(*names: str) -> str | None:
        found = (new.get(f"{root}.{name}") for name in names for root in ("SI", "SI5", "SI4"))
        return next((v for v in found if v is not None), None)

    saved = value("hChannels.channelSave", "channelsSave") or "1"
    numbers = re.findall(r"\d+", saved)
    labels = tuple(f"Channel {n}" for n in numbers)
    channels = max(len(numbers), 1)
    slices = _whole(value("hStackManager.actualNumSlices")) or _whole(
        value("hStackManager.numSlices", "stackNumSlices")
    )
    in_volume = _whole(value("hStackManager.numFramesPerVolume", "hFastZ.numFramesPerVolume"))
    with_flyback = _whole(value("hStackManager.numFramesPerVolumeWithFlyback"))
    discarded = _whole(value("hFastZ.numDiscardFlybackFrames", "fastZNumDiscardFrames")) or 0
    # Before 2020 a number of slices was a stack, whatever moved the focus.
    enabled, piezo = value("hStackManager.enable"), value("hFastZ.enable", "fastZEnable")
    volumetric = _true(enabled) if enabled is not None else (slices or 1) > 1 or _true(piezo or "")
    start = max((_frame_number(description) or 1) - 1, 0)
    regions = _true(value("hRoiManager.mroiEnable") or "")
    if not volumetric or (slices or in_volume or 1) <= 1:
        return Turns(channels, names=labels if channels > 1 else (), regions=regions)
    planes = min(slices or in_volume or 1, _MOST)
    slow = (value("hStackManager.stackMode") or "").strip("' ") == "slow"
    slow = slow or (enabled is None and piezo is not None and not _true(piezo))
    # ScanImage 4 moves a piezo with every frame, and the stage after all frames of a slice.
    frames_here = value("hStackManager.framesPerSlice", *(["acqNumFrames"] if slow else []))
    repeats = _whole(frames_here) or 1
    average = _whole(value("hScan2D.logAverageFactor", "acqNumAveragedFrames")) or 1
    repeats = max(repeats // average, 1)
    if in_volume and in_volume % planes == 0 and not slow:
        repeats = max(in_volume // planes // average, 1)
    frames = planes * repeats
    flyback = max(with_flyback - in_volume, 0) if with_flyback and in_volume else 0 if slow else discarded
    flyback //= average
    begin = start
    if flyback:
        # A file may have been written without them: then the numbers of its frames jump.
        jumped = _frame_number(later(channels * frames))
        first = _frame_number(description)
        if jumped is not None and first is not None and start % (frames + flyback) == 0:
            if jumped - first == frames + flyback:
                flyback, begin = 0, start // (frames + flyback) * frames
        elif jumped is None and _true(
            value("hFastZ.discardFlybackFrames", "fastZDiscardFlybackFrames") or ""
        ):
            flyback = flyback if with_flyback else discarded
    return Turns(channels, planes, repeats, flyback, begin, labels if channels > 1 else (), regions=regions)


def _scanimage_3(text: str) -> Turns:
    words = dict(re.findall(r"^\s*state\.acq\.(\w+)\s*=\s*([\d.]+)\s*$", text, flags=re.MULTILINE))
    saved = [n for n in range(1, 5) if words.get(f"savingChannel{n}") == "1"]
    channels = len(saved) or int(float(words.get("numberOfChannelsSave", 1))) or 1
    planes = max(int(float(words.get("numberOfZSlices", 1))), 1)
    frames = max(int(float(words.get("numberOfFrames", 1))), 1)
    averaged = float(words.get("averaging", 0)) > 0
    names = tuple(f"Channel {n}" for n in saved) if len(saved) > 1 else ()
    if planes == 1:
        return Turns(channels, names=names)
    return Turns(channels, planes, 1 if averaged else frames, names=names)


def _shaped_axes(description: str) -> PageAxes | None:
    """Return the axes of pages by the description that tifffile writes, or None where it is none or unclear."""
    try:
        said = json.loads(description)
        letters, shape = str(said["axes"]), [int(n) for n in said["shape"]]
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        return None
    leading = [(a, n) for a, n in zip(letters, shape, strict=False) if a not in "YXS" and n > 1]
    order = "".join(a for a, _ in leading)
    if not set(order) <= set(_LETTERS) or len(set(order)) < len(order) or not set(order) - {"T"}:
        return None
    # Where nothing varies in time, planes stand in for it, as in a recorded movie.
    names = {**_LETTERS, "Z": "z" if "T" in order else "time"}
    if [names[a] for a in order] == ["time"]:
        return None

    def axes(index: int, _description: str) -> dict[str, int | str]:
        place: dict[str, int | str] = {}
        for at, (letter, length) in reversed(list(enumerate(leading))):
            index, place[names[letter]] = divmod(index, length) if at else (0, index)
        return place

    return axes


def page_axes(path: Path, software: str, description: str) -> PageAxes | None:
    """Return what gives channel, slice, time and position of a page, or None where time is all there is.

    It is called with the number of the page and its description.

    Parameters
    ----------
    path
        Of the file.
    software, description
        The texts of its first page.
    """
    try:
        turns = scanimage_turns(software, description)
    except (ValueError, ArithmeticError) as error:
        raise InvalidInput(
            f"{path} has a header of ScanImage that makes no sense ({one_line(error)}): it is damaged."
        ) from error
    if turns is not None:
        return None if turns.single else lambda index, text: turns.axes(index, _frame_number(text))
    if (shaped := _shaped_axes(description)) is not None:
        return shaped
    if not description[-10:].strip().endswith("OME>"):
        return None
    check_xml(path, description)
    if "BinaryOnly" in description:  # another file describes this one, if it is there already
        from denoscope.runtime.movies.formats.tiff import head_of

        with suppress(InvalidInput):
            description = head_of(path).ome
    listed = page_turns(description, path.name)
    if listed is None or len({(p, c, z) for p, _, c, z in listed.values()}) < 2:
        return None

    def axes(index: int, _description: str) -> dict[str, int | str]:
        if index not in listed:
            return {}
        position, time, channel, plane = listed[index]
        return {"time": time, "z": plane, "channel": channel, "position": position}

    return axes


def _whole(text: str | None) -> int | None:
    """Return a positive whole number, or None for anything else (``Inf``, ``[]``)."""
    match = re.fullmatch(r"\[?\s*(\d{1,18})(?:\.0{0,18})?\s*\]?", text or "")
    return int(match[1]) or None if match else None


def _true(text: str) -> bool:
    return text.strip().lower() in ("1", "true")


def _frame_number(description: str) -> int | None:
    """Return the number of a page's frame in its acquisition, as ScanImage writes it in each page."""
    for name in ("frameNumberAcquisition", "frameNumbers", r"Frame Number"):
        match = re.search(rf"^{name}\s*=\s*(\d{{1,18}})\b", description, flags=re.MULTILINE)
        if match:
            return int(match[1])
    return None
