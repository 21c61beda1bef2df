"""Notice that a movie changed between an interrupted run and the one that goes on with it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput

if TYPE_CHECKING:
    from denoscope.runtime import AnyMovie

__all__ = ["WatchedMovie", "sample_hash"]

_SAMPLES = 64


def _digest(frame: npt.NDArray[Any]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).digest()


def sample_hash(movie: AnyMovie) -> str:
    """Return a hash of at most 64 frames, evenly from the first to the last."""
    count = len(movie)
    samples = min(_SAMPLES, count)
    numbers = sorted({round(sample * (count - 1) / max(samples - 1, 1)) for sample in range(samples)})
    return hashlib.sha256(b"".join(_digest(np.asarray(movie[t])) for t in numbers)).hexdigest()


class WatchedMovie:
    """A movie that remembers what the frames were of which the output is written.

    Parameters
    ----------
    movie
        Frames are read from it, each hashed as it is read.
    """

    def __init__(self, movie: AnyMovie) -> None:
        self._movie = movie
        self._digests: dict[int, bytes] = {}
        self.shape, self.dtype = movie.shape, movie.dtype

    def __len__(self) -> int:
        return len(self._movie)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        frame = np.asarray(self._movie[index])
        if isinstance(index, int) and index not in self._digests:
            self._digests[index] = _digest(frame)
        return frame

    def chain(self, before: str, number: int) -> str:
        """Return the hash of the frames done, in order, when the output of one more is written."""
        digest = self._digests.pop(number, None) or _digest(np.asarray(self._movie[number]))
        for older in [each for each in self._digests if each < number]:
            del self._digests[older]
        return _chain(before, digest)

    def check(self, wanted: str, start: int, count: int) -> None:
        """Compare frames that an interrupted run has done with what they are now.

        Raises
        ------
        InvalidInput
            When one of them has changed.
        """
        chain = ""
        for number in range(start, start + count):
            chain = _chain(chain, _digest(np.asarray(self._movie[number])))
        if chain != wanted:
            raise InvalidInput(
                f"the movie has changed since the interrupted run: frames {start} to {start + count - 1}, of which the "
                "output is written, are not what they were; delete the .partial and its .json to begin anew."
            )


def _chain(before: str, digest: bytes) -> str:
    return hashlib.sha256(before.encode() + digest).hexdigest()
