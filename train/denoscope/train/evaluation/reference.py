"""Denoise a whole movie with the torch network: the reference that the runtime's stream must equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from denoscope.runtime import Intensity
from denoscope.runtime.motion.field import Extent, inverse, lead, places
from denoscope.train.data.sampling import CELL, align_features, recall_memory, spreading
from denoscope.train.networks.live.net import LiveNet

__all__ = ["denoise_reference"]

FloatArray = npt.NDArray[np.float32]
_Displacement = npt.NDArray[np.floating[Any]]
_Places = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def denoise_reference(
    network: LiveNet,
    frames: npt.NDArray[np.generic],
    intensity: Intensity,
    *,
    look_ahead: int | None = None,
    fields: FloatArray | None = None,
    margin: int = 0,
    on_share: Callable[[float], None] = lambda _: None,
) -> tuple[FloatArray, FloatArray]:
    """Denoise every frame of a movie, frame by frame as a live session does, or as a recorded movie is.

    Parameters
    ----------
    network
        The trained network.
    frames
        (T, H, W) raw counts.
    intensity
        The session's transform and noise model.
    look_ahead
        Frames after the centre to use; the network's own when None.
    fields
        (T, 2, KNOTS, KNOTS): how far each frame lies off the scene, in pixels, for a network with `subpixel`; not at
        all when None. The knots are spread over the scene.
    margin
        Pixels of the scene beyond the frame on each side.
    on_share
        Called after every frame with the share of the movie that is done, up to 1.

    Returns
    -------
    mean, std
        (T, H, W) float32 in raw counts, not rounded.

    Examples
    --------
    >>> from denoscope.train import LiveNetSettings
    >>> network = LiveNet(LiveNetSettings())  # untrained
    >>> noisy = np.random.default_rng(0).poisson(100, (4, 32, 48)).astype(np.uint16)
    >>> intensity = Intensity(offset=100, scale=10, noise_slope=0.1, noise_floor=0.1)
    >>> mean, std = denoise_reference(network, noisy, intensity)
    >>> mean.shape, std.shape
    ((4, 32, 48), (4, 32, 48))
    """
    n = network.settings.window
    ahead = network.settings.look_ahead if look_ahead is None else look_ahead
    length, height, width = frames.shape
    stride, guided = network.stride, network.settings.guided
    placed = _Placed((height, width), stride, margin, fields)
    noise = torch.tensor([intensity.noise_slope, intensity.noise_floor], dtype=torch.float32)
    network.eval()
    features: dict[int, torch.Tensor] = {}
    flows: dict[int, torch.Tensor] = {}  # from the frame before
    mean = np.empty((length, height, width), np.float32)
    std = np.empty_like(mean)

    def encoded(number: int) -> torch.Tensor:
        z = (np.asarray(frames[number], np.float32) - intensity.offset) / intensity.scale
        frame = functional.pad(
            torch.from_numpy(z.astype(np.float32))[None, None], placed.pad, mode="replicate"
        )
        return network.encode(frame, noise)

    with torch.inference_mode():
        arrived = 0
        memory = weight = blank = still = torch.zeros(0)
        after: list[tuple[torch.Tensor, torch.Tensor]] = []
        for centre in range(length):
            while arrived < min(length, centre + ahead + 1):
                features[arrived] = encoded(arrived)
                if guided and arrived:
                    before = placed.onto_frame(features[arrived - 1], arrived - 1, arrived)
                    flows[arrived] = network.motion(before, features[arrived], noise)
                arrived += 1
            if centre == 0:
                blank = torch.zeros_like(features[0])
                still = blank.new_zeros(1, 2, *(-(-n // stride) for n in (height, width)))
                remembered = [n // network.scale for n in placed.scene.size]
                constants = len(network.settings.memory_decay)
                memory = blank.new_zeros(1, CELL * constants, *remembered)
                weight = blank.new_zeros(constants)
                after = [(memory, weight)]  # of the last frames, the whole movie first in the end
                for number in reversed(range(length)) if network.settings.two_sided else ():
                    after.append(network.remember(placed.onto_scene(encoded(number), number), *after[-1]))
            leaving = features.pop(centre - n // 2 - 1, None)
            if leaving is not None:
                leaving = placed.onto_scene(leaving, centre - n // 2 - 1)
                memory, weight = network.remember(leaving, memory, weight)
            remembered_now, weights_now = memory, weight
            if network.settings.two_sided:
                later, later_weight = after[max(0, length - centre - ahead - 1)]
                remembered_now = torch.cat([memory, later], dim=1)
                weights_now = torch.cat([weight, later_weight])
            window = range(centre - n // 2, centre + n // 2 + 1)
            valid = torch.tensor([float(i in features and i <= centre + ahead) for i in window])
            flows.pop(centre - n // 2, None)  # leads from a frame that has left the window
            steps = [flows.get(i, still) for i in window[1:]] if guided else []
            seen = [placed.onto_frame(features[i], i, centre) if i in features else blank for i in window]
            recalled = placed.recalled(remembered_now, centre)
            mu, sd = network.fuse(seen, valid, recalled, weights_now, noise, steps)
            mean[centre] = mu[0, 0, :height, :width].numpy() * intensity.scale + intensity.offset
            std[centre] = sd[0, 0, :height, :width].numpy() * intensity.scale
            on_share((centre + 1) / length)
    return mean, std


class _Placed:
    """Frames on their scene: samples features of one onto another. Without `fields` all lie where the scene does."""

    def __init__(self, shape: tuple[int, int], stride: int, margin: int, fields: FloatArray | None) -> None:
        height, width = shape
        self.pad = (0, -width % stride, 0, -height % stride)
        self._whole = whole = height + 2 * margin, width + 2 * margin
        self.scene = Extent((whole[0] + -whole[0] % stride, whole[1] + -whole[1] % stride))
        self._frame = Extent((height + self.pad[3], width + self.pad[1]), (margin, margin))
        self._weights = {made: spreading(whole, made.size, made.corner) for made in (self.scene, self._frame)}
        self._fields = fields
        self._backs = [] if fields is None else [inverse(field, whole) for field in fields]

    def onto_scene(self, features: torch.Tensor, number: int) -> torch.Tensor:
        """Return a frame's features where they lie on the scene."""
        if self._fields is None:
            return features
        return align_features(features, *self._at(self._fields[number], self._frame, self.scene))

    def onto_frame(self, features: torch.Tensor, number: int, other: int) -> torch.Tensor:
        """Return a frame's features where they lie on another frame."""
        if self._fields is None or number == other:
            return features
        known = lead(self._fields[number], self._backs[other], self._whole)
        return align_features(features, *self._at(known, self._frame, self._frame))

    def recalled(self, memory: torch.Tensor, number: int) -> torch.Tensor:
        """Return the scene's memory where it lies on a frame."""
        if self._fields is None:
            return memory
        return recall_memory(memory, *self._at(-self._backs[number], self.scene, self._frame))

    def _at(self, displacement: _Displacement, given: Extent, made: Extent) -> _Places:
        """Return where to sample a picture to make another, and what spreads these places over its pixels."""
        there = torch.from_numpy(places(displacement, self._whole, given.size, given.corner))
        return there, *self._weights[made]
