"""Compare denoised frames with the measured ones while a movie runs: a false picture is said, not only shown.

Denoising changes single pixels and leaves the light of many pixels as it was. A few thousand pixels of each frame are
kept until its denoised frame is there. Frames whose means part by more than noise allows, or whose denoised pixels lie
far outside what was measured, are counted; a run of them is a finding. Because a picture may keep its mean and still
have the wrong contrast, the dark and the bright pixels are compared too, summed over many frames.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from denoscope.runtime.errors import NotFinite
from denoscope.runtime.words import counted

__all__ = ["Guard", "GuardFinding"]

Frame = npt.NDArray[Any]
Sample = npt.NDArray[np.float32]

_PIXELS = 3000  # sampled of a frame
_KEPT = 128  # samples; more than a window holds
_AHEAD = 2  # frames that may be seen before the output that was due is judged
_SIGMAS = 5.0  # standard errors of a difference
_MANY_TIMES = 1000
_ROUNDED = 1e-4  # of the value of all pixels, or of 1 where they are 0
_SHARE = 0.02  # of the light above the darkest sampled pixel
_SHARE_OF_PART = 0.06  # the same for the bright and the dark pixels: some contrast of what moves is lost
_LAST = 16  # frames that are looked at together
_MEANS = 64  # measured frames, between whose brightness a denoised one may lie: light that changes is not judged here
_RUN = 8  # of them, on one side: a finding
_FEWEST = 3  # frames of a short movie
_BLOCK = 16  # frames that are summed to compare bright and dark pixels
_BLOCKS = 2  # in a row that find the same
_SHARE_OF_BLOCK = (
    0.02  # of the light, by which the mean of such a sum may be off, whatever the light does in between
)
_KINDS = ("", "contrast", "range", "mean")  # the worst last
_PART = 4  # the brightest and the darkest quarter


class GuardFinding(BaseModel):
    """Findings of the guard for one movie, or of several together.

    Attributes
    ----------
    checked
        Frames that were compared.
    off
        Frames that part from the measured ones, where that is a finding; 0 where nothing is wrong.
    first, last
        Numbers of the first and the last of them; None where nothing is wrong.
    largest
        The largest deviation, as a share of the light above the darkest pixels, with its sign.
    kind
        ``mean``, ``contrast`` or ``range``; empty where nothing is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    checked: int = 0
    off: int = 0
    first: int | None = None
    last: int | None = None
    largest: float = 0.0
    kind: str = ""

    def sentence(self) -> str | None:
        """Return one sentence for the user, None where nothing is wrong."""
        if not self.off:
            return None
        size = abs(self.largest)
        how_much = f"up to {size:.0%}" if size < 10 else f"up to {size:.0f} times"
        if size > _MANY_TIMES:
            how_much = f"more than {_MANY_TIMES} times"
        more = "more" if self.largest > 0 else "less"
        what = {
            "mean": f"show {how_much} {more} light than the measured ones",
            "contrast": f"have bright and dark parts that are {how_much} off the measured ones",
            "range": "have pixels far outside the range of the measured ones",
        }[self.kind]
        return (
            f"the denoised picture is not to be trusted: {self.off} of {counted(self.checked, 'compared frame')} "
            f"({self.first} to {self.last}) {what}, beyond what noise explains; the raw frames are right; "
            "try another `backend` or `bundle`"
        )

    def and_of(self, other: GuardFinding) -> GuardFinding:
        """Return both together."""
        if not (self.off and other.off):
            found = self if self.off else other
            return found.model_copy(update={"checked": self.checked + other.checked})
        larger = self if abs(self.largest) >= abs(other.largest) else other
        return GuardFinding(
            checked=self.checked + other.checked,
            off=self.off + other.off,
            first=min(self.first or 0, other.first or 0),
            last=max(self.last or 0, other.last or 0),
            largest=larger.largest,
            kind=larger.kind,
        )


class Guard:
    """Compare the frames of one stream, a few thousand pixels each."""

    def __init__(self) -> None:
        self._samples: dict[int, tuple[Sample, float]] = {}  # with their means
        self._ahead: deque[tuple[int, int, Sample]] = (
            deque()
        )  # seen while an output before them was under way
        self.seen = 0
        """Count of measured frames that were seen."""
        self._checked = self._off = 0
        self._first: int | None = None
        self._last: int | None = None
        self._largest, self._kind = 0.0, ""
        self._begin()

    def restart(self) -> None:
        """Note that a movie has ended; what was found stays."""
        self._judge_a_short_movie()
        self._begin()

    def _judge_a_short_movie(self) -> None:
        if self._compared < _LAST:
            self._judge(min(_RUN, max(_FEWEST, -(-self._compared // 2))))

    def _begin(self) -> None:
        self._samples.clear()
        self._ahead.clear()
        self._compared = 0
        self._low = np.inf
        self._high = -np.inf
        self._shape: tuple[int, ...] = ()
        self._means: deque[float] = deque(maxlen=_MEANS)
        self._recent: deque[tuple[int, float, str]] = deque(maxlen=_LAST)
        self._waiting: dict[int, tuple[float, str]] = {}
        self._counted_to = -1
        self._forget_block()

    def _forget_block(self) -> None:
        self._block: tuple[Sample, Sample] | None = None
        self._in_block = self._blocks = 0
        self._share_before = 0.0, 0
        self._block_from = self._next_from = 0
        self._parts: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None

    @property
    def finding(self) -> GuardFinding:
        """Findings so far."""
        return GuardFinding(
            checked=self._checked,
            off=self._off,
            first=self._first,
            last=self._last,
            largest=self._largest,
            kind=self._kind,
        )

    @property
    def finding_if_ended(self) -> GuardFinding:
        """Findings as they would be if the movie ended here; the guard stays as it is."""
        other = copy(self)
        other._waiting = dict(self._waiting)
        other._judge_a_short_movie()
        return other.finding

    @property
    def off(self) -> int:
        """Frames that are a finding so far; changes where `finding` says something new."""
        return self._off

    def saw(self, number: int, frame: Frame) -> None:
        """Keep a sample of a measured frame (H, W) until its denoised one is checked."""
        self.seen += 1
        self._ahead.append((self.seen, number, _sample(frame)))
        if len(self._ahead) > _AHEAD:
            self.look_until(self._ahead[0][0])

    def look_until(self, seen: int) -> None:
        """Look at what was seen up to a count of frames: an output is judged by what came before it was due."""
        while self._ahead and self._ahead[0][0] <= seen:
            self._look(*self._ahead.popleft()[1:])

    def _look(self, number: int, sample: Sample) -> None:
        if len(self._samples) >= _KEPT:
            del self._samples[next(iter(self._samples))]
        if sample.shape != self._shape:
            self._low, self._high = np.inf, -np.inf
            self._means.clear()
            self._forget_block()
            self._shape = sample.shape
        mean, low, high = _mean(sample), _least(sample), _most(sample)
        self._samples[number] = sample, mean
        self._means.append(mean)
        if low < self._low:
            self._low = low
        if high > self._high:
            self._high = high

    def check_numbers(self, number: int, made: Frame) -> None:
        """Refuse a frame of integers, as the graphs gave it, that is what NaN and infinite values become.

        Raises
        ------
        NotFinite
            If it is 0 or a limit of its dtype everywhere, far off the measured frame.
        """
        kept = self._samples.get(number)
        if kept is None or made.dtype.kind == "f":
            return
        value = int(made[0, 0])
        if value not in _limits(made.dtype) or made.min() != made.max():
            return
        given, mean = kept
        error = float(given.std()) / given.size**0.5
        if abs(float(value) - mean) > _SIGMAS * error + 0.2 * (mean - self._low) + 1:
            raise NotFinite(_not_finite(number))

    def check(self, number: int, made: Frame) -> None:
        """Compare a denoised frame (H, W) with the measured one.

        Raises
        ------
        NotFinite
            If it holds no numbers where there are measured ones.
        """
        for skipped in [each for each in self._samples if each < number]:
            del self._samples[skipped]
        given, mean = self._samples.pop(number, (None, 0.0))
        found = _sample(made)
        if given is None or not given.shape == found.shape == self._shape:
            return
        self._checked += 1
        self._compared += 1
        difference = found - given
        rows: Sample = difference.dot(_shares(difference.shape[1]))
        off = _mean(rows)
        if off != off or off in (np.inf, -np.inf):
            known = np.isfinite(given)
            if not np.isfinite(found[known]).all():
                raise NotFinite(_not_finite(number))
            return  # holes in the measured frame; the mean of the rest is not worth the time
        light = mean - self._low
        low, high = _least(found), _most(found)
        reach = self._high - self._low
        # Without any noise, not even whole counts, what is left is what the arithmetic rounds.
        whole = 0.5 if made.dtype.kind in "iu" else 0.0 if reach > 0 else _ROUNDED * max(abs(mean), 1.0)
        self._sum_up(number, given, found, whole)
        kind = "range" if high > self._high + reach + whole or low < self._low - reach - whole else ""
        least = _SHARE * light + whole
        if kind or abs(off) > least:
            off -= min(max(off, min(self._means) - mean), max(self._means) - mean)
            if abs(off) > least and abs(off) > _SIGMAS * _error(difference, rows) + least:
                kind = "mean"
        share = off / max(light, 1e-30)
        if len(self._recent) == _LAST:
            self._waiting.pop(self._recent[0][0], None)
        self._recent.append((number, share, kind))
        if kind:
            self._waiting[number] = share, kind
            self._judge(_RUN)

    def _judge(self, enough: int) -> None:
        """Count the frames that are off, where enough of the last ones are, on one side."""
        off = [share for _, share, kind in self._recent if kind]
        above = sum(share > 0 for share in off)
        if max(above, len(off) - above) < enough:
            return
        for number, (share, kind) in self._waiting.items():
            self._count(number, number, 1, share, kind)
        self._waiting.clear()

    def _count(self, first: int, last: int, frames: int, share: float, kind: str) -> None:
        """Count so many frames with numbers from `first` to `last`, those only that were not counted yet."""
        if last > self._counted_to:
            self._off += frames if first > self._counted_to else min(frames, last - self._counted_to)
            self._counted_to = last
        self._first = first if self._first is None else min(self._first, first)
        self._last = last if self._last is None else max(self._last, last)
        rank, known = _KINDS.index(kind), _KINDS.index(self._kind)
        if rank > known or (rank == known and abs(share) > abs(self._largest)):
            self._largest, self._kind = share, kind

    def _sum_up(self, number: int, given: Sample, found: Sample, whole: float) -> None:
        """Add up a block of frames, and compare its bright and dark pixels when it is complete."""
        if self._block is None:
            self._block = given.copy(), found.copy()
            self._in_block, self._next_from = 1, number
            return
        self._block[0].__iadd__(given)
        self._block[1].__iadd__(found)
        self._in_block += 1
        if self._in_block < _BLOCK:
            return
        measured, made = (each / np.float32(_BLOCK) for each in self._block)
        self._block = None
        self._judge_the_sum(made - measured, measured, number, whole)
        # Chosen by the block before, so that no pixel is chosen by its own noise.
        parts = self._parts
        low, high = np.quantile(made, (1 / _PART, 1 - 1 / _PART))
        self._parts = made <= low, made >= high
        if parts is None:
            self._block_from = self._next_from
            return
        worst, overall = 0.0, float((made - measured).mean())  # of all pixels alike: not contrast
        # What moves has less contrast in a sum of frames than in each of them, and none after whole turns.
        moving = max(0.0, float(min(found.var(), given.var()) - made.var())) ** 0.5
        for part in parts:
            off = made[part] - measured[part]
            error = float(off.std()) / max(off.size, 1) ** 0.5
            light = float(measured[part].mean()) - float(measured.min()) + moving
            mean = float(off.mean()) - overall
            if abs(mean) > _SIGMAS * error + _SHARE_OF_PART * light + whole:
                share = mean / max(light, 1e-30)
                worst = share if abs(share) > abs(worst) else worst
        self._blocks = self._blocks + 1 if worst else 0
        if self._blocks >= _BLOCKS:
            self._count(self._block_from, number, _BLOCKS * _BLOCK, worst, "contrast")
        self._block_from = self._next_from

    def _judge_the_sum(self, off: Sample, measured: Sample, number: int, whole: float) -> None:
        """Compare the means of a block of frames: light that changes is smoothed within it, but not lost."""
        mean, light = _mean(off), _mean(measured) - self._low
        error = _error(off, off.dot(_shares(off.shape[1])))
        share = mean / max(light, 1e-30)
        if not abs(mean) > _SIGMAS * error + _SHARE_OF_BLOCK * light + whole:
            share = 0.0
        before, self._share_before = self._share_before, (share, self._next_from)
        if share * before[0] > 0:
            worst = max(share, before[0], key=abs)
            self._count(before[1], number, _BLOCKS * _BLOCK, worst, "mean")


# Means and extremes as numpy's methods give them, without what these cost for a few thousand pixels.


def _mean(values: Sample) -> float:
    return float(np.add.reduce(values, axis=None) / np.float32(values.size))


def _least(values: Sample) -> float:
    return float(np.minimum.reduce(values, axis=None))


def _most(values: Sample) -> float:
    return float(np.maximum.reduce(values, axis=None))


@cache
def _shares(count: int) -> Sample:
    """Return what makes a mean of a sum over a row."""
    return np.full(count, 1 / count, np.float32)


def _error(difference: Sample, rows: Sample) -> float:
    """Return the error of the mean of a difference, by its rows (their means are given) and by its columns."""
    columns = difference.mean(axis=0)
    return float(max(rows.std() / len(rows) ** 0.5, columns.std() / len(columns) ** 0.5))


@cache
def _limits(dtype: np.dtype[Any]) -> frozenset[int]:
    """Return what NaN and infinite values become in a dtype of integers."""
    limits = np.iinfo(dtype)
    return frozenset((0, int(limits.min), int(limits.max)))


def _sample(frame: Frame) -> Sample:
    step = max(1, round((frame.size / _PIXELS) ** 0.5))
    return frame[step // 2 :: step, step // 2 :: step].astype(np.float32)


def _not_finite(number: int) -> str:
    return (
        f"The denoised frame {number} holds no numbers (NaN or infinite): the bundle is damaged, or the backend "
        "computes wrongly; try another `backend`, or export the bundle again."
    )
