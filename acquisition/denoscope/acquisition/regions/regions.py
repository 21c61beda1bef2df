"""Regions of a frame as lists of pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime import InvalidInput, counted

__all__ = ["Regions", "label_numbers"]

_MOST = 20_000
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class Regions:
    """Named sets of pixels of frames of one size; they may overlap.

    Parameters
    ----------
    shape
        ``(H, W)`` of the frames.
    names
        One for each region, all different.
    pixels
        Flat indices ``row * W + column`` of each region's pixels, at least one.
    origin
        Where the regions come from, for the report.

    Attributes
    ----------
    flat
        The indices of all regions, one after the other.
    starts
        Place in `flat` of each region's first pixel.
    sizes
        Pixels of each region.

    Raises
    ------
    InvalidInput
        When there is no region or too many, names are repeated, or a region is empty or reaches beyond the frame.

    Examples
    --------
    >>> regions = Regions.from_labels([[0, 1, 1], [2, 0, 0]])
    >>> regions.names, regions.sizes.tolist()
    (('1', '2'), [2, 1])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        names: Sequence[str],
        pixels: Sequence[npt.NDArray[np.integer[Any]]],
        *,
        origin: str = "",
    ) -> None:
        if not pixels:
            raise InvalidInput(f"{origin or 'the regions'}: there is no region in it; draw at least one.")
        if len(pixels) > _MOST:
            raise InvalidInput(
                f"{origin or 'the regions'}: {counted(len(pixels), 'region')}, and {_MOST} are the limit; give fewer."
            )
        self.shape = (int(shape[0]), int(shape[1]))
        self.names = _distinct([" ".join(str(name).split()) or str(i + 1) for i, name in enumerate(names)])
        self.origin = origin
        for name, each in zip(self.names, pixels, strict=True):
            if len(each) == 0:
                raise InvalidInput(
                    f"region {name} of {origin or 'the regions'} holds no pixel of the frame: draw it again."
                )
            if int(each.min()) < 0 or int(each.max()) >= self.shape[0] * self.shape[1]:
                raise InvalidInput(
                    f"region {name} of {origin or 'the regions'} reaches beyond frames of {self.shape[0]} x "
                    f"{self.shape[1]} pixels; take regions that were drawn on frames of this size."
                )
        self.sizes: npt.NDArray[np.int64] = np.array([len(each) for each in pixels], np.int64)
        self.flat: npt.NDArray[np.intp] = np.concatenate([np.asarray(each, np.intp) for each in pixels])
        self.starts: npt.NDArray[np.intp] = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.names)

    def pixels(self, region: int) -> npt.NDArray[np.intp]:
        """Return the flat indices of one region."""
        start = int(self.starts[region])
        return self.flat[start : start + int(self.sizes[region])]

    def index(self, name: str) -> int:
        """Return the place of a region.

        Raises
        ------
        InvalidInput
            When none has this name.
        """
        if name in self.names:
            return self.names.index(name)
        known = ", ".join(self.names[:5]) + (", ..." if len(self) > 5 else "")
        raise InvalidInput(f"there is no region {name}: the regions are {known}.")

    def check(self, shape: tuple[int, int]) -> None:
        """Refuse frames of another size.

        Raises
        ------
        InvalidInput
            When the frames have another size; the message gives both.
        """
        if tuple(shape) != self.shape:
            raise InvalidInput(
                f"{self.origin or 'the regions'} belong to frames of {self.shape[0]} x {self.shape[1]} pixels, and "
                f"these have {shape[0]} x {shape[1]}; give regions that were drawn on frames of this size."
            )

    @classmethod
    def from_labels(cls, labels: npt.ArrayLike, *, origin: str = "the label image") -> Self:
        """Return the regions of a label image ``(H, W)``: 0 is background, each other whole number is a region.

        Raises
        ------
        InvalidInput
            When it is no image of whole numbers, or holds no region.
        """
        image = np.asarray(labels)
        image = (
            image.reshape(image.shape[-2:])
            if image.ndim > 2 and image.size == np.prod(image.shape[-2:])
            else image
        )
        if image.ndim != 2 or image.size == 0 or image.dtype.kind not in "iub":
            raise InvalidInput(
                f"{origin} has {counted(image.ndim, 'axis', 'axes')} of {image.dtype}, and a label image has two axes "
                "of whole numbers: 0 is background, 1 the first region."
            )
        ravelled = image.ravel()
        inside = np.flatnonzero(ravelled > 0)
        order = inside[np.argsort(ravelled[inside], kind="stable")]
        values, starts = np.unique(ravelled[order], return_index=True)
        pixels = np.split(order, starts[1:]) if len(values) else []
        return cls((image.shape[0], image.shape[1]), [str(value) for value in values], pixels, origin=origin)

    def numbered_from(self, first: int) -> Self:
        """Return the same regions with the names `first`, `first` + 1 and so on."""
        pixels = [self.pixels(place) for place in range(len(self))]
        names = [str(first + place) for place in range(len(self))]
        return type(self)(self.shape, names, pixels, origin=self.origin)

    def labels(self) -> npt.NDArray[np.int32]:
        """Return a label image ``(H, W)`` with the numbers of `label_numbers`; a later region covers an earlier one."""
        image = np.zeros(self.shape[0] * self.shape[1], np.int32)
        image[self.flat] = np.repeat(label_numbers(self.names), self.sizes)
        return image.reshape(self.shape)


def label_numbers(names: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return the number of each region in a label image.

    Parameters
    ----------
    names
        Names of regions, all different.

    Returns
    -------
    numpy.ndarray
        ``(len(names),)`` int32: a name that is a number from 1 on is its own label, so that traces and labels agree;
        any other name, and 0, which is the background, gets the smallest number that is free.

    Examples
    --------
    >>> label_numbers(["4", "7", "1"]).tolist(), label_numbers(["0", "soma", "2"]).tolist()
    ([4, 7, 1], [1, 3, 2])
    """
    own = [int(name) if _NUMBER.fullmatch(name) and int(name) < 1 << 31 else 0 for name in names]
    taken = set(own)
    free = (number for number in range(1, len(own) + len(taken) + 1) if number not in taken)
    return np.array([number or next(free) for number in own], np.int32)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return the names, a number added to each that came before."""
    seen: set[str] = set()
    distinct = []
    for name in names:
        unique, number = name, 1
        while unique in seen:
            number += 1
            unique = f"{name} ({number})"
        seen.add(unique)
        distinct.append(unique)
    return tuple(distinct)
