"""Scanbox ``.sbx``: inverted 16-bit frames without a header, described by the ``.mat`` file of the same name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.check import check_claim, check_regular, one_line
from denoscope.runtime.movies.headers.facts import Facts, Metadata
from denoscope.runtime.movies.headers.pages_of import Turns, choose_pages
from denoscope.runtime.movies.joined import Chosen
from denoscope.runtime.movies.lazy import Reader
from denoscope.runtime.movies.pick import Axis, Wanted, pick_index
from denoscope.runtime.words import counted

__all__ = ["open_scanbox"]

_LARGEST_MAT = 256 * 2**20
_MOST = 100_000
# Detectors that were on, by `info.channels`.
_CHANNELS: dict[int, tuple[str, ...]] = {1: ("PMT0", "PMT1"), 2: ("PMT0",), 3: ("PMT1",)}


def open_scanbox(path: Path, wanted: Wanted, limit_bytes: int) -> Reader:
    """Open one channel and plane of a Scanbox recording as a movie, bright where the sample is bright.

    Raises
    ------
    InvalidInput
        If its ``.mat`` file is missing or does not fit, or the choice is ambiguous.
    """
    described = path.with_suffix(".mat")
    if not described.is_file():
        raise InvalidInput(
            f"{path} says nothing of its size, and {described.name} is not beside it: copy the .mat file that Scanbox "
            "wrote with it too."
        )
    info = _read_info(described)
    if "simon" in info or "Perm" in info:
        raise InvalidInput(
            f"{path} was written by another program than Scanbox ({described.name} holds `simon` or `Perm`), which "
            "orders its pixels in its own way: save the movie as TIFF there."
        )
    try:
        rows, columns = (int(n) for n in np.ravel(info["sz"])[:2])
        lines = int(np.ravel(info.get("recordsPerBuffer", rows))[0])
        bidirectional = int(np.ravel(info.get("scanmode", 1))[0]) == 0
        names = _names(info)
        planes = _planes(info)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise InvalidInput(
            f"{described} does not describe {path.name} ({one_line(error)}): copy the .mat file that Scanbox wrote."
        ) from error
    if lines and not rows == lines * (2 if bidirectional else 1) and lines != rows:
        raise InvalidInput(
            f"{described} gives {counted(rows, 'line')} a frame and {counted(lines, 'line')} a buffer: it does not "
            f"describe {path.name}; "
            "copy the .mat file that Scanbox wrote."
        )
    if not (0 < rows < _MOST and 0 < columns < _MOST):
        raise InvalidInput(
            f"{described} gives frames of {rows} x {columns} pixels: it is damaged; copy it again."
        )
    pick_index(str(path), Axis("position", 1), wanted.position)
    frame_bytes = rows * columns * len(names) * 2
    size = path.stat().st_size
    frames = size // frame_bytes
    check_claim(
        str(path),
        (frames, rows, columns),
        2,
        piece=(1, rows, columns),
        stored_bytes=size,
        compressed=False,
        limit_bytes=limit_bytes,
    )
    channel = pick_index(str(path), Axis("channel", len(names), names), wanted.channel)
    flat = _Frames(path, (frames, rows, columns), len(names), channel)
    planned = int(np.ravel(info.get("max_idx", frames - 1))[0]) + 1
    if frames < planned:
        flat.note = (
            f"{path.name} ends at frame {frames} of the {planned} recorded: it was cut short; copy it again"
        )
    elif size % frame_bytes:
        flat.note = f"{path.name} ends within frame {frames}, which is left out"
    places, _ = choose_pages(str(path), Turns(1, planes), frames, Wanted(None, wanted.plane))
    reader = Chosen(flat, places)
    rate = float(np.ravel(info.get("resfreq", 0))[0] or 0) * (2 if bidirectional else 1) / rows
    volume = planes if len(places) < frames else 1
    reader.facts = Facts(increment_s=volume / rate if rate > 0 else None, channel=names[channel])
    return reader


def _read_info(file: Path) -> Metadata:
    """Return the fields of `info`."""
    loadmat = import_module("scipy.io").loadmat
    check_regular(file)
    if file.stat().st_size > _LARGEST_MAT:
        raise InvalidInput(
            f"{file} has {file.stat().st_size / 1e6:.0f} MB: it is no description of a recording; copy "
            "the .mat file that Scanbox wrote."
        )
    try:
        info = loadmat(file, squeeze_me=True, struct_as_record=False, variable_names=["info"])["info"]
        return dict(vars(info))
    except NotImplementedError as error:
        raise InvalidInput(
            f"{file} is a MATLAB file of version 7.3: save `info` again in MATLAB with save(FILE, 'info', '-v7')."
        ) from error
    except Exception as error:  # a damaged file raises anything
        raise InvalidInput(
            f"{file} cannot be read as the description of a Scanbox recording ({one_line(error)}): copy it again."
        ) from error


def _names(info: Metadata) -> tuple[str, ...]:
    """Return the names of the detectors that were on."""
    code = int(np.ravel(info["channels"])[0])
    if code in _CHANNELS:
        return _CHANNELS[code]
    count = int(vars(info["chan"])["nchan"])
    if not 1 <= count <= 8:
        raise ValueError(f"{count} channels")
    return tuple(f"PMT{i}" for i in range(count))


def _planes(info: Metadata) -> int:
    """Return how many planes take turns, by the waveform of the tunable lens."""
    wave = np.ravel(info.get("otwave", ()))
    if not int(np.ravel(info.get("volscan", len(wave) > 0))[0]):
        return 1
    if len(wave):
        return len(wave)
    cycle = np.ravel(info.get("otparam", ()))
    if len(cycle) < 3 or not 1 <= int(cycle[2]) <= _MOST:
        raise ValueError("it was recorded in volumes, and gives no number of planes")
    return int(cycle[2])


class _Frames:
    """All frames of one channel; channels take turns from pixel to pixel."""

    dtype = np.dtype(np.uint16)

    def __init__(self, path: Path, shape: tuple[int, int, int], channels: int, channel: int) -> None:
        self.shape, self.piece, self.note = shape, (1, 1, 1), ""
        self._path, self._channels, self._channel = path, channels, channel

    def read(self, start: int, stop: int, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Return (stop - start, rows, columns)."""
        _, height, width = self.shape
        line = width * self._channels * 2
        result = np.empty((stop - start, rows.stop - rows.start, columns.stop - columns.start), np.uint16)
        with self._path.open("rb", buffering=0) as file:
            for i, t in enumerate(range(start, stop)):
                file.seek((t * height + rows.start) * line)
                data = bytearray()
                while len(data) < result.shape[1] * line:
                    more = file.read(result.shape[1] * line - len(data))
                    if not more:
                        raise EOFError(f"the file ends within frame {t}")
                    data += more
                pixels = np.frombuffer(data, "<u2").reshape(-1, width, self._channels)
                # Scanbox stores brightness upside down.
                np.subtract(65535, pixels[:, columns, self._channel], out=result[i])
        return result
