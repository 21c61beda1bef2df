"""Checks of what a recording needs beside a backend: processor, Micro-Manager, disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from denoscope.acquisition.raw.disk import free_bytes, write_speed

from .finding import Finding, Status
from .machine import cores, cpu_name, installed, load_average

__all__ = ["check_cores", "check_disk", "check_micromanager", "judge_disk", "judge_micromanager"]

_PACKAGES = (
    *("pycromanager", "mmpycorex", "pyjavaz", "ndstorage"),
    *("pymmcore", "pymmcore-plus", "mm-test-adapters"),
)
_INSTALL = 'python -m pip install ".[micromanager]"'
_PINNED = re.compile(r"([A-Za-z0-9._-]+)\s*==\s*([^\s;]+)")

_PROBE_BYTES = 60 * 2**20
# A usual recording: 512 x 512 pixels of 16 bits, 30 frames a second, written raw and denoised.
_FRAME_BYTES = 2 * 512 * 512 * 2
_USUAL_FPS = 30.0


def check_cores() -> list[Finding]:
    """Look at the processor and how busy it is."""
    from denoscope.runtime import default_threads

    count, load = cores(), load_average()
    facts = {**count, "cpu": cpu_name(), "threads": default_threads(), "load_average_1min": load}
    found = (
        f"{cpu_name()}, {count['usable']} of {count['logical']} logical cores usable, "
        f"{default_threads()} for a backend"
    )
    if load is not None and load > count["usable"]:
        found += f"; busy: {load:.1f} threads wanted to run in the last minute"
        remedy = "end other programs before a recording"
        return [Finding("processor", Status.IMPROVE, found, remedy, facts)]
    if count["usable"] < 2:
        remedy = "give this computer or this process a second core"
        return [
            Finding(
                "processor", Status.IMPROVE, f"{found}; one core serves camera and network", remedy, facts
            )
        ]
    return [Finding("processor", Status.OK, found, facts=facts)]


def check_micromanager() -> list[Finding]:
    """Look at Micro-Manager's Python packages and their device-interface numbers."""
    return [judge_micromanager({name: installed(name) for name in _PACKAGES}, _pins())]


def _pins() -> dict[str, str]:
    """Return the versions that this denoscope asks for, none where it is not installed as a package."""
    try:
        wanted = requires("denoscope") or []
    except PackageNotFoundError:
        return {}
    found = (_PINNED.match(line) for line in wanted)
    return {match[1].lower(): match[2] for match in found if match and match[1].lower() in _PACKAGES}


def judge_micromanager(versions: Mapping[str, str | None], pins: Mapping[str, str]) -> Finding:
    """Say whether Micro-Manager's packages fit together.

    Parameters
    ----------
    versions
        Of each package, None where it is not installed.
    pins
        Versions that were released together and are asked for.

    Returns
    -------
    Finding
        The device-interface number is the last but one part of pymmcore's version (12.5.1.75.0: 75), and the
        first of the adapters' (75.20261014: 75).
    """
    core, adapters = versions.get("pymmcore"), versions.get("mm-test-adapters")
    speaks = core.split(".")[-2] if core and core.count(".") >= 2 else None
    offers = adapters.split(".")[0] if adapters else None
    facts = {"versions": dict(versions), "core_interface": speaks, "adapters_interface": offers}
    missing = [name for name, version in versions.items() if version is None]
    topic = "Micro-Manager"
    if missing:
        found = f"{', '.join(missing)} not installed; without them no camera can be opened"
        return Finding(topic, Status.BROKEN, found, _INSTALL, facts)
    if speaks != offers:
        found = (
            f"pymmcore {core} has device interface {speaks}, mm-test-adapters {adapters} has {offers}: "
            "they must be equal"
        )
        return Finding(topic, Status.BROKEN, found, _INSTALL, facts)
    found = (
        f"pycromanager {versions['pycromanager']}, pymmcore {core}, device interface {speaks} on both sides"
    )
    other = {n: w for n, w in pins.items() if versions.get(n) not in (None, w)}
    if other:
        found += "; untested together: " + ", ".join(
            f"{name} {versions[name]} (tested: {wanted})" for name, wanted in other.items()
        )
        return Finding(topic, Status.IMPROVE, found, _INSTALL, facts)
    return Finding(topic, Status.OK, f"{found}; your Micro-Manager must have {speaks} too", facts=facts)


def check_disk(output: Path, reserve_mb: float) -> list[Finding]:
    """Write a small file where recordings would go, time it, and delete it."""
    folder = output.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        remedy = "denoscope doctor --output FOLDER"
        return [Finding("disk", Status.BROKEN, f"{folder} is a file, not a folder", remedy)]
    free = free_bytes(folder)
    size = min(_PROBE_BYTES, free // 4)
    try:
        speed = write_speed(folder, size)
    except OSError as error:
        facts = {"folder": str(folder), "free_bytes": free}
        found = f"nothing can be written to {folder} ({error.strerror or error})"
        return [Finding("disk", Status.BROKEN, found, "denoscope doctor --output FOLDER", facts)]
    return [judge_disk(folder, free, speed, reserve_mb)]


def judge_disk(folder: Path, free: int, speed: float, reserve_mb: float) -> Finding:
    """Say whether a disk is large and fast enough.

    Parameters
    ----------
    folder
        Where it was measured.
    free
        Bytes free.
    speed
        Bytes a second.
    reserve_mb
        Disk space in MB that a recording leaves free.
    """
    fps = speed / _FRAME_BYTES
    minutes = max(0.0, (free - reserve_mb * 1e6) / (_FRAME_BYTES * _USUAL_FPS) / 60)
    facts = {"folder": str(folder), "free_bytes": free, "write_bytes_per_s": speed, "fps_512": fps}
    found = (
        f"{folder}: {free / 1e9:.1f} GB free, writes {speed / 1e6:.0f} MB/s, enough for {fps:.0f} frames/s of "
        f"512x512 raw and denoised, and for {minutes:.0f} minutes at {_USUAL_FPS:g} frames/s"
    )
    elsewhere = "denoscope doctor --output FOLDER, with a folder on another disk"
    if free < reserve_mb * 1e6:
        short = f"{found}; a recording needs {reserve_mb:g} MB to stay free"
        return Finding("disk", Status.BROKEN, short, f"free space, or try {elsewhere}", facts)
    if fps < _USUAL_FPS:
        slow = f"{found}; too slow for {_USUAL_FPS:g} frames/s"
        return Finding("disk", Status.IMPROVE, slow, f"try {elsewhere}", facts)
    return Finding("disk", Status.OK, found, facts=facts)
