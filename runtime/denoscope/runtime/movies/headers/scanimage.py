"""Interval and pixel size as the headers of ScanImage give them: versions 3, 4, 5, and 2016 and later."""

from __future__ import annotations

import re
from collections.abc import Callable

from .facts import Facts, told

__all__ = ["frame_time", "scanimage_facts"]

_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"


def scanimage_facts(software: str, description: str, width: int) -> Facts:
    """Return the interval of a ScanImage movie, of volumes where it stepped through planes, and its pixel size.

    Parameters
    ----------
    software, description
        The texts of the first page.
    width
        Columns of a frame, in pixels.
    """
    text = f"{software}\n{description}".replace("\r", "\n")
    new = re.findall(r"^(?:scanimage\.)?SI\d*\.([\w.]+)\s*=\s*(.+?)\s*$", text, flags=re.MULTILINE)
    if new:
        values = dict(new)
        return Facts(
            pixel_size_um=told(lambda: _pixel_um(values, width)), increment_s=told(lambda: _interval(values))
        )
    old = dict(re.findall(r"^\s*state\.acq\.(\w+)\s*=\s*(.+?)\s*$", text, flags=re.MULTILINE))
    return Facts(increment_s=told(lambda: _interval_3(old)))


def frame_time(description: str) -> float | None:
    """Return the seconds since the recording began at which a page was taken, None where it does not say so."""
    found = re.search(
        rf"^(?:frameTimestamps_sec|Frame Timestamp\(s\))\s*=\s*({_NUMBER})", description, re.MULTILINE
    )
    return None if found is None else float(found[1])


def _value(values: dict[str, str], *names: str) -> str:
    return next((values[name] for name in names if name in values), "")


def _positive(text: str, otherwise: float) -> float:
    number = float(text) if re.fullmatch(_NUMBER, text) else 0.0
    return number if number > 0 else otherwise


def _interval(values: dict[str, str]) -> float:
    planes = _positive(
        _value(values, "hStackManager.actualNumSlices", "hStackManager.numSlices", "stackNumSlices"), 1.0
    )
    enabled = _value(values, "hStackManager.enable", "hFastZ.enable", "fastZEnable").lower()
    rate = float(_value(values, "hRoiManager.scanFrameRate", "scanFrameRate") or 0)
    if enabled in ("1", "true") and planes > 1:
        if volumes := _positive(_value(values, "hRoiManager.scanVolumeRate"), 0.0):
            return 1 / volumes
        flyback = _positive(_value(values, "hFastZ.numDiscardFlybackFrames", "fastZNumDiscardFrames"), 0.0)
        return (planes + flyback) / rate
    average: Callable[[str], float] = lambda name: _positive(_value(values, name), 1.0)  # noqa: E731
    return max(average("hScan2D.logAverageFactor"), average("acqNumAveragedFrames")) / rate


def _interval_3(values: dict[str, str]) -> float:
    if _positive(values.get("numberOfZSlices", ""), 1.0) > 1:
        raise ValueError("the stage moves between frames")
    averaged = _positive(values.get("averaging", ""), 0.0) > 0
    frames = _positive(values.get("numberOfFrames", ""), 1.0) if averaged else 1.0
    return frames / float(values["frameRate"])


def _pixel_um(values: dict[str, str], width: int) -> float:
    if _value(values, "hRoiManager.mroiEnable").lower() in ("1", "true"):
        raise ValueError("regions may have pixels of other sizes")
    numbers = [float(n) for n in re.findall(_NUMBER, values["hRoiManager.imagingFovUm"])]
    if float(values["hRoiManager.pixelsPerLine"]) != width:
        raise ValueError("frames were changed after the recording")
    across = numbers[::2]
    return (max(across) - min(across)) / width
