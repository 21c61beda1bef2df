"""Denoise a whole movie with the torch network: the reference that the runtime's stream must equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from denoscope.runtime import Intensity
from denoscope.train._live import LiveNet

__all__ = ["denoise_movie"]

FloatArray = npt.NDArray[np.float32]


def denoise_movie(
    network: LiveNet,
    frames: npt.NDArray[np.generic],
    intensity: Intensity,
    *,
    look_ahead: int | None = None,
    rests: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Denoise every frame of a movie, frame by frame as a live session does.

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
    rests
        (T, 2): how far each frame lies off the scene, for a network with `subpixel`; not at all when None.

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
    sharp = network.settings.subpixel
    off = torch.zeros(length, 2) if rests is None else torch.from_numpy(np.asarray(rests, np.float32))
    noise = torch.tensor([intensity.noise_slope, intensity.noise_floor], dtype=torch.float32)
    features: dict[int, torch.Tensor] = {}
    flows: dict[int, torch.Tensor] = {}  # from the frame before
    mean = np.empty((length, height, width), np.float32)
    std = np.empty_like(mean)
    network.eval()
    with torch.inference_mode():
        arrived = 0
        memory = weight = blank = still = torch.zeros(0)
        for centre in range(length):
            while arrived < min(length, centre + ahead + 1):
                z = (np.asarray(frames[arrived], np.float32) - intensity.offset) / intensity.scale
                frame = functional.pad(
                    torch.from_numpy(z.astype(np.float32))[None, None], pad, mode="replicate"
                )
                features[arrived] = network.encode(frame, noise)
                if guided and arrived:
                    between = [off[arrived - 1], off[arrived]] if sharp else []
                    flows[arrived] = network.motion(features[arrived - 1], features[arrived], noise, *between)
                arrived += 1
            if centre == 0:
                blank = torch.zeros_like(features[0])
                still = blank.new_zeros(1, 2, *(-(-n // stride) for n in (height, width)))
                memory = blank.new_zeros(1, network.settings.memory_channels, *blank.shape[2:])
                weight = blank.new_zeros(len(network.settings.memory_decay))
            leaving = features.pop(centre - n // 2 - 1, None)
            if leaving is not None:
                rest = off[centre - n // 2 - 1] if sharp else None
                memory, weight = network.remember(leaving, memory, weight, rest)
            window = range(centre - n // 2, centre + n // 2 + 1)
            valid = torch.tensor([float(i in features and i <= centre + ahead) for i in window])
            flows.pop(centre - n // 2, None)  # leads from a frame that has left the window
            steps = [flows.get(i, still) for i in window[1:]] if guided else []
            seen = [features.get(i, blank) for i in window]
            placed = [off[min(max(i, 0), length - 1)] for i in window] if sharp else []
            mu, sd = network.fuse(seen, valid, memory, weight, noise, steps, placed)
            mean[centre] = mu[0, 0, :height, :width].numpy() * intensity.scale + intensity.offset
            std[centre] = sd[0, 0, :height, :width].numpy() * intensity.scale
    return mean, std
