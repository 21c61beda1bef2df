"""Memory that two processes share and that no crash can leave behind.

On POSIX it is a file without a name, handed to the child as an open descriptor; on Windows a mapping of
the page file under a random name. Both are gone when the last process that has them open is, however it
ended, which a named segment of `multiprocessing.shared_memory` is not: it outlives a killed process, or
the resource tracker of the first process to end takes it away from the others.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
import sys
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Slab"]

_STEP = 1 << 16  # of mappings on Windows, and a multiple of every page


class Slab:
    """A piece of shared memory that can grow.

    Parameters
    ----------
    descriptor
        Of the other process's slab, inherited; None to make a new one. Unused on Windows.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.nbytes = 0
        self._map: mmap.mmap | None = None
        self._descriptor = -1
        if sys.platform != "win32":
            self._descriptor = _nameless() if descriptor is None else descriptor

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that the other process must inherit."""
        return () if sys.platform == "win32" else (self._descriptor,)

    def grow(self, nbytes: int) -> str:
        """Make room for so many bytes, losing what it held; return what `follow` needs to see it too.

        It never becomes smaller. Arrays that lie in it stay valid.
        """
        self.nbytes = max(self.nbytes, -(-nbytes // _STEP) * _STEP)
        name = f"denoscope-{secrets.token_hex(16)}"
        if sys.platform != "win32":
            os.ftruncate(self._descriptor, self.nbytes)
        self._open(name)
        return name

    def follow(self, name: str, nbytes: int) -> None:
        """See what the other process has grown to `nbytes`."""
        self.nbytes = nbytes
        self._open(name)

    def _open(self, name: str) -> None:
        if sys.platform == "win32":
            self._map = mmap.mmap(-1, self.nbytes, tagname=name)
        else:
            self._map = mmap.mmap(self._descriptor, self.nbytes)

    def view(self, at: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array that lies in the slab from byte `at` on.

        Raises
        ------
        ValueError
            When it does not fit.
        """
        wanted = np.dtype(dtype)
        count = math.prod(shape)
        if self._map is None or at < 0 or at + count * wanted.itemsize > self.nbytes:
            raise ValueError(f"{count} values of {wanted} at byte {at} do not fit into {self.nbytes} bytes")
        return np.frombuffer(self._map, wanted, count, at).reshape(shape)

    def again(self) -> Slab:
        """Return the same slab for another visit, to be closed by itself."""
        return Slab(None if sys.platform == "win32" else os.dup(self._descriptor))

    def close(self) -> None:
        """Let go of the memory; arrays that lie in it keep it until they are gone. Safe to call twice."""
        self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _nameless() -> int:
    """Return the descriptor of a new file that has no name."""
    if sys.platform == "linux":
        import fcntl

        # Sealed: whoever could make it smaller would end every process that still reads there (SIGBUS).
        number = os.memfd_create("denoscope", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return number
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
