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
    """
    n = network.settings.window
    ahead = network.settings.look_ahead if look_ahead is None else look_ahead
    length, height, width = frames.shape
    stride, guided = network.stride, network.settings.guided
    pad = (0, -width % stride, 0, -height % stride)
    whole = height + 2 * margin, width + 2 * margin
    scene = Extent((whole[0] + -whole[0] % stride, whole[1] + -whole[1] % stride))
    frame_on_it = Extent((height + pad[3], width + pad[1]), (margin, margin))
    weights = {made: spreading(whole, made.size, made.corner) for made in (scene, frame_on_it)}

    def at(displacement: _Displacement, given: Extent, made: Extent = frame_on_it) -> _Places:
        """Return where to sample a picture to make another, and what spreads these places over its pixels."""
        there = torch.from_numpy(places(displacement, whole, given.size, given.corner))
        return there, *weights[made]

    backs = {} if fields is None else {t: inverse(field, whole) for t, field in enumerate(fields)}
    noise = torch.tensor([intensity.noise_slope, intensity.noise_floor], dtype=torch.float32)
    network.eval()
    features: dict[int, torch.Tensor] = {}
    flows: dict[int, torch.Tensor] = {}  # from the frame before
    mean = np.empty((length, height, width), np.float32)
    std = np.empty_like(mean)

    def encoded(number: int) -> torch.Tensor:
        z = (np.asarray(frames[number], np.float32) - intensity.offset) / intensity.scale
        frame = functional.pad(torch.from_numpy(z.astype(np.float32))[None, None], pad, mode="replicate")
        return network.encode(frame, noise)

    def on_scene(number: int, its_features: torch.Tensor) -> torch.Tensor:
        if fields is None:
            return its_features
        return align_features(its_features, *at(fields[number], frame_on_it, scene))

    with torch.inference_mode():
        arrived = 0
        memory = weight = blank = still = torch.zeros(0)
        after: list[tuple[torch.Tensor, torch.Tensor]] = []
        for centre in range(length):
            while arrived < min(length, centre + ahead + 1):
                features[arrived] = encoded(arrived)
                if guided and arrived:
                    before = features[arrived - 1]
                    if fields is not None:
                        known = lead(fields[arrived - 1], backs[arrived], whole)
                        before = align_features(before, *at(known, frame_on_it))
                    flows[arrived] = network.motion(before, features[arrived], noise)
                arrived += 1
            if centre == 0:
                blank = torch.zeros_like(features[0])
                still = blank.new_zeros(1, 2, *(-(-n // stride) for n in (height, width)))
                remembered = [n // network.scale for n in scene.size]
                constants = len(network.settings.memory_decay)
                memory = blank.new_zeros(1, CELL * constants, *remembered)
                weight = blank.new_zeros(constants)
                after = [(memory, weight)]  # of the last frames, the whole movie first in the end
                for number in reversed(range(length)) if network.settings.two_sided else ():
                    after.append(network.remember(on_scene(number, encoded(number)), *after[-1]))
            leaving = features.pop(centre - n // 2 - 1, None)
            if leaving is not None:
                leaving = on_scene(centre - n // 2 - 1, leaving)
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
            seen = [features.get(i, blank) for i in window]
            recalled = remembered_now
            if fields is not None:
                recalled = recall_memory(remembered_now, *at(-backs[centre], scene))
                seen = [
                    align_features(each, *at(lead(fields[i], backs[centre], whole), frame_on_it))
                    if i in features and i != centre
                    else each
                    for i, each in zip(window, seen, strict=True)
                ]
            mu, sd = network.fuse(seen, valid, recalled, weights_now, noise, steps)
            mean[centre] = mu[0, 0, :height, :width].numpy() * intensity.scale + intensity.offset
            std[centre] = sd[0, 0, :height, :width].numpy() * intensity.scale
            on_share((centre + 1) / length)
    return mean, std
