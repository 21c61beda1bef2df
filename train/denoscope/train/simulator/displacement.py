"""Smooth motion with known truth: displacement fields, the flow between frames, moved movies.

A displacement d_t (2, H, W), rows then columns, in pixels, says where each pixel of frame t was at
rest: ``frame_t(p) = rest(p - d_t(p))``. Between two frames follows the flow on the grid of the second
one, ``frame_a(p + flow(p)) = frame_b(p)``, which is how flows are written everywhere in this package.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from denoscope.runtime import InvalidInput, counted

__all__ = ["flow_between", "position_rms", "smooth_displacement", "warp", "warp_movie"]

FloatArray = npt.NDArray[np.float32]

_STEEPEST = 0.3  # standard deviation of the displacement's slope; a slope of one folds the picture
_SPLINE_LENGTH = np.sqrt(2 / 3)  # correlation length of a cubic B-spline on white knots, in knots
_SPLINE_VARIANCE = 151 / 315  # its variance, averaged over where a pixel lies between two knots


def smooth_displacement(
    rng: np.random.Generator,
    frames: int,
    shape: tuple[int, int],
    *,
    rms_px: float,
    length_px: float,
    time_constant_frames: float,
) -> FloatArray:
    """Draw local motion that is smooth in space and time.

    The field is a cubic B-spline over knots whose values are Gaussian noise smoothed in time, so its
    correlation falls as exp(-d^2 / (2 length_px^2)) with distance and as
    exp(-t^2 / (4 time_constant_frames^2)) with time.

    Parameters
    ----------
    rng
        Source of every choice.
    frames, shape
        Number of frames and (H, W) of one.
    rms_px
        Root-mean-square displacement from one frame to the next, along each axis, in pixels. It is the
        mean over many draws; one short movie has more or less.
    length_px
        Correlation length in pixels.
    time_constant_frames
        Standard deviation, in frames, of the Gaussian that smooths the motion in time; 0 draws every
        frame anew.

    Returns
    -------
    ndarray
        Displacements from rest, (T, 2, H, W) float32.

    Raises
    ------
    InvalidInput
        If a size is out of range, or the motion would fold the picture onto itself.
    """
    if frames < 1 or min(shape) < 1 or rms_px < 0 or length_px <= 0 or time_constant_frames < 0:
        raise InvalidInput(
            f"No motion has {counted(frames, 'frame')} of {shape[0]} x {shape[1]} pixels, {rms_px:g} pixels a frame, "
            f"a length "
            f"of {length_px:g} pixels and a time constant of {time_constant_frames:g} frames: sizes and lengths "
            "must be positive, the motion and its time constant at least 0."
        )
    spread = position_rms(rms_px, time_constant_frames)
    if spread > _STEEPEST * length_px:
        raise InvalidInput(
            f"Local motion of {rms_px:g} pixels a frame with a time constant of {time_constant_frames:g} frames moves "
            f"points by {spread:.3g} pixels, which folds the picture within {length_px:g} pixels; the length must be "
            f"at least {spread / _STEEPEST:.3g} pixels, or the motion or its time constant smaller."
        )
    spacing = length_px / _SPLINE_LENGTH
    rows, columns = (_spline_basis(size, spacing, rng) for size in shape)
    kernel = _time_kernel(time_constant_frames)
    lead = len(kernel) - 1
    noise = rng.standard_normal((frames + lead, 2, rows.shape[1], columns.shape[1]), np.float32)
    knots = ndimage.convolve1d(noise, kernel, axis=0)[lead // 2 : lead // 2 + frames]
    knots *= np.float32(spread / (np.sqrt((kernel**2).sum()) * _SPLINE_VARIANCE))
    return np.asarray(rows @ knots @ columns.T, np.float32)


def position_rms(rms_px: float, time_constant_frames: float) -> float:
    """Return how far points are from rest, as root mean square, if they move `rms_px` a frame."""
    kernel = _time_kernel(time_constant_frames)
    variance = float((kernel**2).sum())
    neighbours = float((kernel[1:] * kernel[:-1]).sum())
    return rms_px * float(np.sqrt(variance / (2 * (variance - neighbours))))


def flow_between(
    position_a: FloatArray, position_b: FloatArray, scene_flow: FloatArray | None = None
) -> FloatArray:
    """Return the flow with ``frame_a(p + flow(p)) = frame_b(p)`` between two displaced frames.

    The flow solves ``flow(p) = d_a(p + flow(p)) - d_b(p)`` by iteration, to 0.001 pixels. Where it leads
    out of the frame, d_a at the nearest edge stands for what was never recorded.

    Parameters
    ----------
    position_a, position_b
        Displacements from rest of both frames, (2, H, W).
    scene_flow
        Flow (2, H, W) of what moves at rest, from a to b on the grid of b before its displacement; none
        for a scene that holds still.
    """
    own = -np.asarray(position_b, np.float32)
    if scene_flow is not None:
        own = own + warp(scene_flow, own)
    flow = own + position_a
    for _ in range(50):  # the slope of d_a is well below one, so each round gains a factor of two or more
        better = own + warp(position_a, flow)
        change = float(np.abs(better - flow).max())
        flow = better
        if change < 1e-3:
            break
    return flow


def warp(image: FloatArray, flow: FloatArray, *, order: int = 1) -> FloatArray:
    """Return ``image(p + flow(p))`` for an image (H, W) or channels (C, H, W); edges are repeated."""
    height, width = flow.shape[1:]
    at = np.stack(
        [flow[0] + np.arange(height, dtype=np.float32)[:, None], flow[1] + np.arange(width, dtype=np.float32)]
    )
    if image.ndim == 2:
        return np.asarray(ndimage.map_coordinates(image, at, order=order, mode="nearest"), np.float32)
    return np.stack([ndimage.map_coordinates(c, at, order=order, mode="nearest") for c in image]).astype(
        np.float32
    )


def warp_movie(movie: FloatArray, positions: FloatArray, *, order: int = 1) -> FloatArray:
    """Displace a movie (T, H, W), or one still image (H, W), by `positions` (T, 2, H, W): (T, H, W)."""
    stills = movie if movie.ndim == 3 else np.broadcast_to(movie, (len(positions), *movie.shape))
    if stills.shape != (len(positions), *positions.shape[2:]):
        raise InvalidInput(
            f"A movie of shape {movie.shape} cannot be displaced by positions of shape {positions.shape}; "
            "they must agree in frames, height and width."
        )
    return np.stack([warp(image, -d, order=order) for image, d in zip(stills, positions, strict=True)])


def _spline_basis(size: int, spacing: float, rng: np.random.Generator) -> FloatArray:
    """Weights (size, knots) of uniform cubic B-splines; a random phase hides where the knots lie."""
    at = np.arange(size) / spacing + rng.random()
    distance = np.abs(at[:, None] + 1 - np.arange(int(at[-1]) + 4))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.asarray(np.where(distance < 1, near, far), np.float32)


def _time_kernel(time_constant_frames: float) -> npt.NDArray[np.float64]:
    """Sampled Gaussian of odd length; one for a time constant of zero."""
    reach = int(np.ceil(4 * time_constant_frames))
    if not reach:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / time_constant_frames) ** 2)
    return np.asarray(kernel / kernel.sum())
