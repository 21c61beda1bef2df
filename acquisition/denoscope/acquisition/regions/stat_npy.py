"""The file ``stat.npy`` of suite2p, read without running anything that is in it.

It is a pickled array of dictionaries. A pickle is a program, so that `numpy.load` with ``allow_pickle=True`` runs
whatever the file says. This reader takes the words for lists, dictionaries, numbers, text and numpy's numbers and
arrays, and refuses every other one.
"""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from denoscope.acquisition.contracts import Tags
from denoscope.runtime import InvalidInput

__all__ = ["read_stat"]

_MOST_BYTES = 1 << 30
_LARGEST = 1 << 26  # values of one array
_MOST_VALUES = 1_000_000
_NUMBERS = "biuf"


class _Refused(Exception):
    """Something in the file that is neither number, text, array nor dictionary."""


class _Array:
    """An array of a pickle until its content is known; numpy's own would take objects."""

    def __init__(self) -> None:
        self.value: npt.NDArray[Any] | list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        dtype = dtype.value if isinstance(dtype, _Dtype) else dtype
        count = int(np.prod([int(length) for length in shape], dtype=np.int64)) if shape else 1
        if not 0 <= count <= _LARGEST:
            raise _Refused(f"an array of {count} values")
        if dtype == "object":
            if not isinstance(content, list) or len(content) != count:
                raise _Refused("an array of objects that does not fit its shape")
            self.value = content
            return
        if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
            raise _Refused("an array of an unknown kind")
        if len(content) != count * dtype.itemsize:
            raise _Refused("an array that does not fit its shape")
        order = "F" if fortran else "C"
        self.value = np.frombuffer(content, dtype).reshape([int(n) for n in shape], order=order)  # type: ignore[call-overload]


class _Dtype:
    """A dtype of a pickle, of numbers only."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name in ("O", "O8", "O4", "object"):
            self.value: Any = "object"
            return
        if not isinstance(name, str) or len(name) > 4:
            raise _Refused(f"numbers of kind {str(name)[:20]}")
        try:
            dtype = np.dtype(name)
        except TypeError as error:
            raise _Refused(f"numbers of kind {name}") from error
        if dtype.kind not in _NUMBERS:
            raise _Refused(f"numbers of kind {name}")
        self.value = dtype

    def __setstate__(self, state: Any) -> None:
        if isinstance(self.value, np.dtype) and len(state) > 1 and state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any = None) -> Any:
    if (
        not isinstance(dtype, _Dtype)
        or not isinstance(dtype.value, np.dtype)
        or not isinstance(content, bytes)
    ):
        raise _Refused("a number of an unknown kind")
    if len(content) != dtype.value.itemsize:
        raise _Refused("a number of the wrong length")
    return np.frombuffer(content, dtype.value)[0]


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Return what numpy's pickles of protocol 5 hold."""
    array = _Array()
    if not isinstance(content, bytes | bytearray):
        raise _Refused("an array without content")
    kind = dtype.value if isinstance(dtype, _Dtype) else dtype
    array.__setstate__((1, shape, kind, order == "F", bytes(content)))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("text in an unknown code")
    return codecs.encode(text, "latin1")


def _never(*_: Any) -> Any:
    raise _Refused("a call of numpy.ndarray")


class _Word:
    """A function that a pickle may name and call, and that it cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _state: Any) -> None:
        raise _Refused("a change of a function")


_WORDS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _never,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _WORDS |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _frombuffer,
    }


class _Reader(pickle.Unpickler):  # the name of every function in the file goes through `find_class`
    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for; only those of numbers and arrays stand for anything."""
        try:
            return _Word(_WORDS[module, name])
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, _pid: Any) -> Any:
        """Refuse references to things outside the file."""
        raise _Refused("a reference to something outside the file")


class _Plain:
    """Turn the values of a file into plain ones, as many as such a file can have."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """Return a value with its arrays as numpy's, or refuse it."""
        self._left -= 1
        if depth > 8 or self._left < 0:
            raise _Refused("values nested too deeply")
        if isinstance(value, _Array):
            value = value.value
            if isinstance(value, np.ndarray):
                return value
        if isinstance(value, dict):
            return {str(key): self(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self(each, depth + 1) for each in value]
        if value is None or isinstance(value, bool | int | float | str | np.generic):
            return value
        raise _Refused(f"a value of type {type(value).__name__}")


def _content(path: Path) -> Any:
    if path.stat().st_size > _MOST_BYTES:
        raise InvalidInput(f"{path} has more than 1 GB, which no stat.npy has; name suite2p's stat.npy.")
    with path.open("rb") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype != np.dtype(object) or len(shape) > 1:
            raise InvalidInput(f"{path} holds numbers and no regions of suite2p; name suite2p's stat.npy.")
        return _Plain()(_Reader(file).load())


def read_stat(path: Path) -> list[Tags]:
    """Return suite2p's description of each region, without running anything that is in the file.

    Parameters
    ----------
    path
        ``stat.npy``.

    Raises
    ------
    InvalidInput
        When it is none, is damaged, or holds anything but numbers, text, arrays and dictionaries.
    """
    try:
        content = _content(path)
    except _Refused as error:
        raise InvalidInput(
            f"{path} holds {error}, which no stat.npy of suite2p holds and which could run a program: it was not "
            "read; get the file from suite2p again."
        ) from None
    except InvalidInput:
        raise
    except OSError:
        raise
    except Exception as error:
        raise InvalidInput(
            f"{path} is no stat.npy of suite2p, or it is damaged ({type(error).__name__}); get it again."
        ) from error
    regions = content if isinstance(content, list) else [content]
    if not regions or not all(isinstance(each, dict) and {"ypix", "xpix"} <= set(each) for each in regions):
        raise InvalidInput(
            f"{path} holds no regions: each needs `ypix` and `xpix`, as suite2p writes them; name suite2p's stat.npy."
        )
    return regions
