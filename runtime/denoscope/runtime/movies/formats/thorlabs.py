"""ThorImage's raw files: 16-bit pages without a header, described by ``Experiment.xml`` beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_regular, one_line
from denoscope.runtime.movies.folders.names import natural_order
from denoscope.runtime.movies.headers.facts import Facts
from denoscope.runtime.movies.headers.pages_of import Turns
from denoscope.runtime.movies.headers.untrusted import parse_xml
from denoscope.runtime.movies.joined import Chosen
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick, pick_index
from denoscope.runtime.words import counted

from .tiff import DenseReader

__all__ = ["experiment_facts", "open_thorlabs"]

_XML = "Experiment.xml"
_RAW = re.compile(r"image_\d+(_\d+)+\.raw", re.IGNORECASE)
_DETECTORS = ("ChanA", "ChanB", "ChanC", "ChanD")
_LARGEST_XML = 64 * 2**20
_MOST = 1_000_000_000


@dataclass(frozen=True)
class _Plan:
    """Frames of one channel in the order in which they are stored: volumes of planes, and flyback frames."""

    frames: int
    planes: int = 1
    flyback: int = 0


def _raw_files(folder: Path) -> list[Path]:
    found = (p for p in folder.iterdir() if _RAW.fullmatch(p.name) and p.is_file())
    return sorted(found, key=lambda p: natural_order(p.name))


def open_thorlabs(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel and plane of a raw file of ThorImage as a movie.

    With ``interleaved`` that many channels are taken to be stored for each frame, and all of them are returned.

    Raises
    ------
    InvalidInput
        If the description does not fit the file, or the choice is ambiguous.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        files = _raw_files(path)
        if not files:
            raise InvalidInput(
                f"{path} holds no raw file of ThorImage, like Image_001_001.raw: name the raw file."
            )
        labels = tuple(file.stem for file in files)
        path = files[pick_index(str(path), Axis("position", len(files), labels), wanted.position)]
    else:
        pick_index(str(path), Axis("position", 1), wanted.position)
    check_regular(path)
    root = _read_xml(folder / _XML)
    try:
        return _opened(path, root, wanted, limit_bytes)
    except (KeyError, ValueError, ArithmeticError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{folder / _XML} does not describe {path.name} ({one_line(error)}): import the raw file in Fiji (File > "
            "Import > Raw) and save it as TIFF."
        ) from error


def experiment_facts(folder: Path) -> Facts | None:
    """Return what ``Experiment.xml`` says of the images in a folder, or None where there is none."""
    if not (folder / _XML).is_file():
        return None
    root = _read_xml(folder / _XML)
    plan = _plans(root)[0]
    return _facts(root, plan.planes + plan.flyback if plan.planes > 1 else 1, None)


def _read_xml(file: Path) -> ET.Element:
    check_regular(file)
    if file.stat().st_size > _LARGEST_XML:
        raise InvalidInput(f"{file} has {file.stat().st_size / 1e6:.0f} MB: it is damaged; copy it again.")
    try:
        return parse_xml(file, file.read_bytes())
    except InvalidInput:
        raise
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InvalidInput(f"{file} is no XML ({one_line(error)}): it is damaged; copy it again.") from error


def _number(element: ET.Element | None, name: str, default: int | None = None) -> int:
    text = None if element is None else element.get(name)
    if text is None:
        if default is None:
            raise KeyError(f"it gives no {name}")
        return default
    number = int(float(text))
    if not 0 <= number < _MOST:
        raise ValueError(f"{name} is {text}")
    return number


def _opened(path: Path, root: ET.Element, wanted: Wanted, limit_bytes: int) -> Reader:
    scanner, camera = root.find("LSM"), root.find("Camera")
    enabled = _channels(root)
    size = path.stat().st_size
    sizes = [(_number(scanner, "pixelY"), _number(scanner, "pixelX"))] if scanner is not None else []
    if camera is not None and camera.get("width") and camera.get("height"):
        sizes.append((_number(camera, "height"), _number(camera, "width")))
    sizes = [(h, w) for h, w in sizes if h and w]
    if not sizes:
        raise KeyError("it gives no size of a frame")
    plans = _plans(root)
    counts = (
        [wanted.interleaved] if wanted.interleaved else sorted({len(enabled), 4 if len(enabled) > 1 else 1})
    )
    exact = [
        (h, w, count, plan)
        for h, w in sizes
        for count in counts
        for plan in plans
        if h * w * 2 * count * plan.frames == size
    ]
    if exact:
        height, width, stored, plan = exact[0]
    else:
        height, width = sizes[0]
        plan = plans[0]
        possible = [count for count in counts if size < height * width * 2 * count * plan.frames]
        if not possible:
            raise InvalidInput(
                f"{path} has {size} bytes, and {_XML} describes {counted(plan.frames, 'frame')} of "
                f"{height} x {width} pixels in "
                f"{len(enabled)} channels: the two do not belong together; import the raw file in Fiji (File > Import "
                "> Raw) and save it as TIFF."
            )
        if len(possible) > 1:
            raise InvalidInput(
                f"{path} ends before frame {plan.frames}, the last one planned, so it may hold {possible[0]} or "
                f"{possible[1]} "
                f"channels for each frame: say which with `interleaved` {possible[0]} (only those that were on) or "
                f"`interleaved` {possible[1]} (all detectors)."
            )
        stored = possible[0]
    return _frames(path, root, (height, width, stored, plan), enabled, wanted, limit_bytes)


def _channels(root: ET.Element) -> tuple[str, ...]:
    """Return the names of the detectors that were on."""
    names = tuple(w.get("name", "") for w in root.findall("Wavelengths/Wavelength"))
    mask = _number(root.find("LSM"), "channel", 0)
    on = tuple(name for bit, name in enumerate(_DETECTORS) if mask >> bit & 1)
    if names and all(names) and (not on or len(names) == len(on)):
        return names
    return on or names or _DETECTORS[:1]


def _plans(root: ET.Element) -> list[_Plan]:
    """Return how the frames of a recording may follow each other, the likeliest first."""
    streaming, lapse, stage = root.find("Streaming"), root.find("Timelapse"), root.find("ZStage")
    steps = max(_number(stage, "steps", 1), 1)
    times = max(_number(lapse, "timepoints", 1), 1)
    found = [_Plan(times * steps, steps)] if _number(stage, "enable", 1) else []
    found.append(_Plan(times))
    if streaming is not None:
        frames, flyback = _number(streaming, "frames", 0), _number(streaming, "flybackFrames", 0)
        streamed: list[_Plan] = []
        if _number(streaming, "zFastEnable", 0) and steps > 1:
            streamed.append(_Plan(frames, steps, flyback))
            if flyback:
                streamed.append(_Plan(frames // (steps + flyback) * steps, steps))
        else:
            streamed.append(_Plan(frames))
            averaged = _number(root.find("LSM"), "averageNum", 1)
            if _number(root.find("LSM"), "averageMode", 0) and averaged > 1:
                streamed.append(_Plan(frames // averaged))
        found = streamed + found if _number(streaming, "enable", 0) else found + streamed
    return [plan for plan in dict.fromkeys(found) if plan.frames]


def _frames(
    path: Path,
    root: ET.Element,
    geometry: tuple[int, int, int, _Plan],
    enabled: tuple[str, ...],
    wanted: Wanted,
    limit_bytes: int,
) -> Reader:
    height, width, stored, plan = geometry
    page_bytes = height * width * 2
    pages = path.stat().st_size // page_bytes
    # A recording that was stopped may end within a frame: one whose channels are not all there is left out.
    pages -= pages % stored
    check_claim(
        str(path),
        (max(pages, 1), height, width),
        2,
        piece=(1, 1, 1),
        stored_bytes=path.stat().st_size,
        compressed=False,
        limit_bytes=limit_bytes,
    )
    dense = DenseReader(path, (pages, height, width), np.dtype("<u2"), 0, page_bytes)
    if _is_signed(dense):
        dense = DenseReader(path, (pages, height, width), np.dtype("<i2"), 0, page_bytes)
    table = Turns(stored, plan.planes, 1, plan.flyback).table(pages)
    inside = table[:, 1] >= 0
    axes = [Axis("time", len(np.unique(table[inside, 0]))), Axis("plane", plan.planes)]
    taken, name = inside, None
    if not wanted.interleaved:
        axes.append(Axis("channel", len(enabled), enabled))
    chosen = pick(str(path), axes, Wanted(None if wanted.interleaved else wanted.channel, wanted.plane, None))
    if chosen[1] is not None:
        taken = taken & (table[:, 1] == chosen[1])
    if not wanted.interleaved:
        index = chosen[2] or 0
        name = enabled[index]
        detector = _DETECTORS.index(name) if stored > len(enabled) and name in _DETECTORS else index
        taken = taken & (table[:, 2] == detector)
    places = np.flatnonzero(taken)
    if not len(places):
        raise InvalidInput(f"{path} ends before the first frame of this choice: nothing was recorded.")
    notes = [chosen.note] if chosen.note else []
    flyback = counted(int((~inside).sum()), "flyback frame is", "flyback frames are")
    notes += [] if inside.all() else [f"{path.name}: {flyback} left out"]
    if pages < plan.frames * stored:
        notes.insert(0, f"{path.name} ends at frame {pages // stored} of the {plan.frames} planned")
    # Where nothing repeats in time, the stack of planes is the movie.
    volume = plan.planes + plan.flyback if chosen[1] is not None else 1
    reader = Chosen(dense, places.astype(np.int64), "; ".join(notes))
    reader.facts = _facts(root, volume, name)
    return reader


def _is_signed(dense: DenseReader) -> bool:
    """Say whether the pixels are signed, as some versions of ThorImage write them.

    Detectors give 14 bits at most: read as unsigned, small negative values lie at the upper end.
    """
    rows, columns = slice(0, dense.shape[1]), slice(0, dense.shape[2])
    at = dense.shape[0] // 2
    values = dense.read(at, at + 1, rows, columns) if dense.shape[0] else np.zeros(1, np.uint16)
    high = values >= 2**15
    return bool(high.any() and (values[high] >= 3 * 2**14).all() and (values[~high] < 2**14).all())


def _facts(root: ET.Element, volume: int, channel: str | None) -> Facts:
    scanner, lapse = root.find("LSM"), root.find("Timelapse")
    streaming, magnification = root.find("Streaming"), root.find("Magnification")

    def value(element: ET.Element | None, name: str) -> float:
        try:
            return float("" if element is None else element.get(name, ""))
        except ValueError:
            return 0.0

    rate = value(scanner, "frameRate")
    if value(scanner, "averageMode"):
        rate /= max(value(scanner, "averageNum"), 1)
    step = volume / rate if rate > 0 else None
    if streaming is not None and not value(streaming, "enable"):
        step = value(lapse, "intervalSec") or None
    size = value(scanner, "pixelSizeUM")
    if not size and value(scanner, "pixelX"):
        size = value(scanner, "widthUM") / value(scanner, "pixelX")
    return Facts(
        size, step, channel=channel, objective="" if magnification is None else magnification.get("name")
    )
