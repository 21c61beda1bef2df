"""Arrays in a temporary file, for what a recorded movie needs beyond the memory that it may take."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

__all__ = ["TemporaryArrays"]


class TemporaryArrays:
    """Arrays at places of a temporary file, which is made with the first of them.

    Parameters
    ----------
    needed_for
        Follows the size in the sentence for the user whose temporary folder is full.
    """

    def __init__(self, needed_for: str) -> None:
        self._needed_for = needed_for
        self._file: Any = None

    def write(self, place: int, *arrays: npt.NDArray[Any], in_all: float) -> None:
        """Write arrays, one after the other, from a byte of the file on.

        Parameters
        ----------
        place
            Of the first byte.
        arrays
            What to write.
        in_all
            Bytes that are needed in all, for the sentence.

        Raises
        ------
        InvalidInput
            If the temporary folder does not take them.
        """
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="denoscope-")  # noqa: SIM115  closed by `close`
            self._file.seek(place)
            for array in arrays:
                self._file.write(np.ascontiguousarray(array).data)
            self._file.flush()  # or a full disk would be noticed by a later read
        except OSError as error:
            raise InvalidInput(
                f"The temporary folder {tempfile.gettempdir()} does not take the {in_all / 1e6:.0f} MB "
                f"{self._needed_for} ({error}): free space there, set TMPDIR (on Windows TEMP) to another folder, or "
                "take the bundle live-hq."
            ) from error

    def read(self, place: int, *arrays: npt.NDArray[Any]) -> None:
        """Fill contiguous arrays with what was written from a byte of the file on."""
        self._file.seek(place)
        for array in arrays:
            self._file.readinto(array.view(np.uint8).data)

    def close(self) -> None:
        """Let the file go. Safe to call twice."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take is not needed any more
                self._file.close()
            self._file = None
