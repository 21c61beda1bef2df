"""Objects that a standard segmentation finds, whether raw counts support them, and their tracks.

Blobs are maxima of the Laplacian of Gaussian (scikit-image's `peak_local_max`) that stand out of the
image's noise and of its texture, and grow to a watershed within its zero crossing (Marr and Hildreth
1980). The same rule, and no other, is put to the movie before and after. Moving objects are found frame by frame
and linked by laptrack (linear assignment with gaps: Jaqaman et al. 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from denoscope.runtime import InvalidInput

__all__ = [
    "Objects",
    "Tracks",
    "count_supported",
    "find_objects",
    "match_objects",
    "region_traces",
    "require_tracker",
    "track_objects",
]

FloatArray = npt.NDArray[np.float32]

_NOISE = 5.0  # standard deviations that pixel noise gives the response; an object stands above,
_TEXTURE = 3.0  # and above so many robust standard deviations of the response itself
_EVIDENCE = 3.3  # standard errors: one in a thousand by chance, one-sided
_GAP = 2  # frames an object may be lost and be the same afterwards


@dataclass(frozen=True)
class Objects:
    """Objects found in one image.

    Attributes
    ----------
    centres
        (n, 2) float, rows then columns.
    labels
        (H, W) int32: 0 background, i + 1 the pixels of object i.
    strength
        (n,) response over what an object must have at least, the strongest object first.
    """

    centres: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int32]
    strength: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """Return how many."""
        return len(self.centres)


@dataclass(frozen=True)
class Tracks:
    """Objects followed through a movie.

    Attributes
    ----------
    count
        Tracks that last at least `least_frames`.
    least_frames
        That limit.
    objects_per_frame
        Mean number of objects found in a frame, tracked or not.
    median_frames
        Median length of the counted tracks; 0 without any. An object that is lost and found again too
        late counts as two short tracks, so that fewer and longer ones are the better result.
    share_tracked
        Of all objects of all frames, those that belong to a counted track.
    paths
        The counted tracks, each (n, 3): frame, row, column.
    """

    count: int
    least_frames: int
    objects_per_frame: float
    median_frames: float
    share_tracked: float
    paths: list[npt.NDArray[np.float64]]


def find_objects(image: npt.NDArray[np.floating], radius_px: float) -> Objects:
    """Find bright blobs of about `radius_px` in an image (H, W).

    Parameters
    ----------
    image
        For example a maximum projection, in any unit.
    radius_px
        Radius of an object.
    """
    if not 1 <= radius_px <= min(image.shape) / 2:
        raise InvalidInput(
            f"An object's radius of {radius_px:g} px does not fit frames of {image.shape[0]} x "
            f"{image.shape[1]} pixels: give one between 1 and {min(image.shape) / 2:g}."
        )
    sigma = radius_px / np.sqrt(2)  # where the response to a disc of this radius is largest
    pixels: npt.NDArray[np.float64] = np.asarray(image, np.float64)
    response = -(sigma**2) * ndimage.gaussian_laplace(pixels, sigma, mode="reflect")
    # White noise of one pixel gives the scaled response this deviation.
    noise = _pixel_noise(pixels) / (sigma * np.sqrt(2 * np.pi))
    least = max(_NOISE * noise, _TEXTURE * _robust_std(response))
    peaks = np.empty((0, 2), int)
    if least > 0:
        peaks = peak_local_max(
            response,
            min_distance=max(1, round(radius_px)),
            threshold_abs=least,
            exclude_border=round(radius_px / 2),  # mirrored there, noise counts twice
        )
    if not len(peaks):
        return Objects(np.empty((0, 2)), np.zeros(image.shape, np.int32), np.empty(0))
    strength = response[tuple(peaks.T)] / least
    order = np.argsort(-strength, kind="stable")
    peaks, strength = peaks[order], strength[order]
    seeds = np.zeros(image.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    near = ndimage.distance_transform_edt(seeds == 0) <= 1.2 * radius_px
    labels = watershed(-response, seeds, mask=(response > 0) & near)
    return Objects(peaks.astype(np.float64), labels.astype(np.int32), strength)


def _robust_std(values: npt.NDArray[np.float64]) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _pixel_noise(image: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation of an image's white noise (Immerkaer 1996, with a median)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    return _robust_std(ndimage.convolve(image, mask, mode="reflect")) / 6


def match_objects(found: Objects, truth: Objects, radius_px: float) -> int:
    """Return how many objects of `truth` have one of `found` within `radius_px`, one for one."""
    if not len(found) or not len(truth):
        return 0
    distance, nearest = cKDTree(found.centres).query(truth.centres)
    taken: set[int] = set()
    for index in np.argsort(distance, kind="stable"):
        if distance[index] <= radius_px:
            taken.add(int(nearest[index]))
    return len(taken)


def region_traces(movie: FloatArray, labels: npt.NDArray[np.int32], *, most: int | None = None) -> FloatArray:
    """Return the mean of each object's pixels over time, (n, T), for the first `most` objects."""
    count = int(labels.max()) if most is None else min(most, int(labels.max()))
    flat = labels.ravel()
    order = np.flatnonzero((flat > 0) & (flat <= count))
    sizes = np.maximum(np.bincount(flat[order], minlength=count + 1)[1:], 1)
    traces = np.empty((count, len(movie)), np.float32)
    for t, frame in enumerate(movie):
        sums = np.bincount(flat[order], weights=frame.ravel()[order], minlength=count + 1)[1:]
        traces[:, t] = sums / sizes
    return traces


def count_supported(noisy: FloatArray, objects: Objects, radius_px: float) -> int:
    """Count the objects that raw counts themselves support, wherever they were found.

    An object is supported if its pixels are brighter, over the whole movie, than the ring round it, or
    if its even and its odd rows go up and down together relative to that ring (rows, because noise
    that bleeds along a row is shared within one). Either must be beyond what noise does once in a
    thousand objects. Nothing of this uses the denoised movie except where to look.

    Parameters
    ----------
    noisy
        (T, H, W) raw counts.
    objects
        Found in any image of this movie.
    radius_px
        Radius of an object; the ring reaches as far again.
    """
    height, width = objects.labels.shape
    rows, _ = np.indices((height, width))
    distance, nearest = ndimage.distance_transform_edt(objects.labels == 0, return_indices=True)
    around = np.where((distance > 1) & (distance <= 1 + radius_px), objects.labels[tuple(nearest)], 0)
    parts = [np.where(rows % 2 == parity, m, 0) for m in (objects.labels, around) for parity in (0, 1)]
    inside_0, inside_1, ring_0, ring_1 = (_padded(noisy, p, len(objects)) for p in parts)
    first, second = inside_0 - ring_0, inside_1 - ring_1
    supported = 0
    for a, b in zip(first, second, strict=True):
        both = (a + b) / 2
        if not np.isfinite(both).all():  # no ring, or a single row of pixels: nothing can be said
            continue
        # Differences carry the noise of single frames and little else.
        error = np.sqrt(max(float(np.mean(np.square(np.diff(both)))) / 2, 1e-30) / len(both))
        brighter = both.mean() > _EVIDENCE * error
        correlation = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
        together = np.arctanh(min(correlation, 0.999999)) * np.sqrt(max(len(a) - 3, 1)) > _EVIDENCE
        supported += bool(brighter or together)
    return supported


def _padded(movie: FloatArray, labels: npt.NDArray[np.int32], count: int) -> FloatArray:
    """Return traces (count, T); NaN for an object without pixels in `labels`."""
    traces = np.full((count, len(movie)), np.nan, np.float32)
    found = region_traces(movie, np.asarray(labels, np.int32))
    traces[: len(found)] = found
    missing = np.bincount(labels.ravel(), minlength=count + 1)[1 : count + 1] == 0
    traces[missing] = np.nan
    return traces


def require_tracker() -> None:
    """Raise `InvalidInput` that says what to install when the tracker is missing."""
    if find_spec("laptrack") is None:
        raise InvalidInput(
            'Following objects needs laptrack, which is not installed: run python -m pip install ".[tracking]"'
            " in a copy of the denoscope repository."
        )


def track_objects(
    movie: FloatArray, radius_px: float, *, on_frame: Callable[[int], None] = lambda _: None
) -> Tracks:
    """Find objects in every frame of (T, H, W) and link them; an object may move by its diameter a frame.

    Raises
    ------
    InvalidInput
        If laptrack is not installed.
    """
    require_tracker()
    from laptrack import LapTrack

    least = max(3, min(10, len(movie) // 4))
    points = []
    for t, frame in enumerate(movie):
        points.append(find_objects(frame, radius_px).centres)
        on_frame(t + 1)
    per_frame = float(np.mean([len(p) for p in points]))
    if not any(len(p) for p in points):
        return Tracks(0, least, 0.0, 0.0, 0.0, [])
    cutoff = (2 * radius_px) ** 2  # of squared distances
    settings: dict[str, Any] = {
        "cutoff": cutoff,
        "gap_closing_cutoff": cutoff,
        "gap_closing_max_frame_count": _GAP,
    }
    graph = LapTrack(**settings).predict(points)
    paths = []
    for nodes in _components(graph):
        path = [(t, *points[t][i]) for t, i in sorted(nodes)]
        if path[-1][0] - path[0][0] + 1 >= least:
            paths.append(np.array(path, np.float64))
    lengths = [p[-1, 0] - p[0, 0] + 1 for p in paths]
    median = float(np.median(lengths)) if lengths else 0.0
    share = sum(len(p) for p in paths) / sum(len(p) for p in points)
    return Tracks(len(paths), least, per_frame, median, share, paths)


def _components(graph: object) -> list[set[tuple[int, int]]]:
    import networkx as nx

    return list(nx.weakly_connected_components(graph))
