"""Times and pixel size of images from the file that their program wrote beside them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from denoscope.runtime.movies.formats.thorlabs import experiment_facts
from denoscope.runtime.movies.headers.facts import Facts, told

__all__ = ["facts_beside"]

_LARGEST = 256 * 2**20
_SEQUENCE = re.compile(r"<Sequence\b[^<>]*>(.*?)(?=<Sequence\b|\Z)", re.DOTALL)


def facts_beside(path: Path, frames: int, channel: int | str | None, plane: int | str | None) -> Facts:
    """Return what Prairie View's XML, Micro-Manager's ``metadata.txt`` or ThorImage's ``Experiment.xml`` tell.

    Parameters
    ----------
    path
        Folder of images, or one of them.
    frames
        How many frames are read; times of another number are left out.
    channel, plane
        Part that is read, by number or name, None for the only one.
    """
    folder = path if path.is_dir() else path.parent
    readers = (
        lambda: _prairie(folder, path, frames, plane),
        lambda: _micro_manager(folder, path, frames, channel, plane),
        lambda: experiment_facts(folder) if path.is_dir() else None,
    )
    found = [facts for read in readers if (facts := told(read)) is not None]
    values = {
        field.name: next((v for facts in found if (v := getattr(facts, field.name)) is not None), None)
        for field in fields(Facts)
    }
    return Facts(**values)


def _text(file: Path) -> str:
    if not file.is_file() or file.stat().st_size > _LARGEST:
        return ""
    return file.read_text("utf-8", errors="replace")


def _is_about(text: str, path: Path, folder: Path) -> bool:
    """Return whether a text is about the images of a folder, or names one image, maybe with folders before it."""
    return path == folder or re.search(rf'["/\\]{re.escape(path.name)}"', text) is not None


def _prairie(folder: Path, path: Path, frames: int, plane: int | str | None) -> Facts | None:
    """Return times (seconds), the period of a frame and the pixel size of Prairie View."""
    texts = (_text(file) for file in sorted(folder.glob("*.xml"))[:4])
    text = next((t for t in texts if "<PVScan" in t and _is_about(t, path, folder)), "")
    if not text:
        return None

    def value(key: str) -> float | None:
        found = re.search(rf'key="{key}"[^<>]*?\bvalue="([^"]*)"', text)
        return None if found is None else told(lambda: float(found[1]))

    edge = re.search(r'key="micronsPerPixel"[^<>]*>\s*<IndexedValue index="XAxis" value="([^"]*)"', text)
    stacks = bool(re.search(r'<Sequence\b[^<>]*\btype="[^"]*ZSeries', text))
    cycles = [_stamps(cycle) for cycle in _SEQUENCE.findall(text)]
    if stacks:
        at = int(plane) if plane is not None else 0
        if re.search(r'\bbidirectionalZ="true"', text, re.IGNORECASE):  # every other volume goes backwards
            cycles = [cycle[::-1] if number % 2 else cycle for number, cycle in enumerate(cycles)]
        times = [cycle[at] for cycle in cycles if at < len(cycle)]
    else:
        times = [time for cycle in cycles for time in cycle]
    whole = len(times) == frames and (not stacks or plane is not None)
    one_raster = (value("rastersPerFrame") or 1) <= 1
    return Facts(
        pixel_size_um=told(lambda: float(edge[1])) if edge else value("micronsPerPixel_XAxis"),
        increment_s=value("framePeriod")
        if not stacks and one_raster
        else Facts(times_s=tuple(times)).increment_s,
        times_s=tuple(times) if whole else None,
    )


def _stamps(cycle: str) -> list[float]:
    """Return the time of each frame of a cycle: one clock for all cycles where the file has it."""
    frames = re.findall(r"<Frame\b[^<>]*", cycle)
    for name in ("absoluteTime", "relativeTime"):
        found = [re.search(rf'\b{name}="([^"]*)"', frame) for frame in frames]
        if all(found):
            return [float(match[1]) for match in found if match]
    return []


def _micro_manager(
    folder: Path, path: Path, frames: int, channel: int | str | None, plane: int | str | None
) -> Facts | None:
    """Return times, exposure (both stored in milliseconds), pixel size and channel of separate images.

    Of one of them only the pixel size; nothing of another file in their folder.
    """
    text = _text(folder / "metadata.txt")
    if not text or not _is_about(text, path, folder):
        return None
    try:
        about: dict[str, Any] = json.loads(text)
    except ValueError:  # the recording was interrupted before its end was written
        about = json.loads(text.rstrip().rstrip(",") + "}")
    summary: dict[str, Any] = about.get("Summary", {})
    if path != folder:
        return Facts(pixel_size_um=told(lambda: float(summary["PixelSize_um"])))
    names = [str(name) for name in summary.get("ChNames", ())]
    c = names.index(channel) if channel in names else int(channel or 0)
    z = int(plane or 0)
    found = [_frame(about, t, c, z, names) for t in range(frames)]
    first = found[0] or {}
    times = [float(each.get("ElapsedTime-ms", "nan")) / 1e3 if each else float("nan") for each in found]
    planned = told(lambda: float(summary["Interval_ms"]) / 1e3)
    return Facts(
        pixel_size_um=told(lambda: float(summary["PixelSize_um"]))
        or told(lambda: float(first["PixelSizeUm"])),
        increment_s=Facts(times_s=tuple(times)).increment_s or planned,
        times_s=tuple(times),
        exposure_s=told(lambda: float(first["Exposure-ms"]) / 1e3),
        channel=names[c] if c < len(names) else None,
    )


def _frame(about: dict[str, Any], t: int, c: int, z: int, names: list[str]) -> dict[str, Any] | None:
    """Return the metadata of an image, under the key of version 1 or 2 of Micro-Manager."""
    found = about.get(f"FrameKey-{t}-{c}-{z}")
    if found is None and c < len(names):
        files = (
            f"img_channel{c:03d}_position000_time{t:09d}_z{z:03d}.tif",
            f"img_{t:09d}_{names[c]}_{z:03d}.tif",
        )
        places = [f"Metadata-{folder}/{file}" for folder in ("Default", "Pos0") for file in files]
        found = next((about[key] for key in places if key in about), None)
    return found if isinstance(found, dict) else None
