"""The methods that can be trained, as a table: all that the one loop needs to know about each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from denoscope.runtime import AnyMovie, Intensity, InvalidInput
from denoscope.train.data.movie import TrainingMovie
from denoscope.train.evaluation.reference import denoise_reference
from denoscope.train.fit_settings import FitResult, FitSettings
from denoscope.train.networks.live.net import LiveNet
from denoscope.train.networks.live.rehearsal import caution_of
from denoscope.train.networks.live.settings import LiveNetSettings
from denoscope.train.networks.live.task import LiveTask
from denoscope.train.networks.published.sts_uvd import FlowEstimator, StsUvd, StsUvdSettings, denoise_sts_uvd
from denoscope.train.networks.published.sts_uvd_task import StsUvdFit, StsUvdFitSettings, StsUvdTask
from denoscope.train.networks.published.umvd import (
    STRIDE,
    Umvd,
    UmvdFitSettings,
    UmvdSettings,
    UmvdTask,
    denoise_umvd,
)
from denoscope.train.task import Task

__all__ = ["METHODS", "Method", "method_named"]

Denoise = Callable[..., npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Method:
    """One way to learn.

    Attributes
    ----------
    name
        What users write.
    shape, settings, result
        Classes of the network's settings, of the training's settings and of its result.
    build
        Makes the network from its settings.
    task
        Makes the training's own part from movies, settings and the network's settings.
    denoise
        Denoises a movie (T, H, W) in raw counts with a trained network: network, frames, intensity, the `fields` of
        an aligned movie, and `on_share`, which is called with the share that is done.
    score
        What the held-out score is, in words; lower is better.
    decay
        Weight decay of AdamW; 0 is Adam, as published.
    clip
        Longest gradient that is applied as it is; None clips nothing.
    average
        Whether the weights that count are a running average over the steps.
    warm_up
        Whether the learning rate rises over the first tenth before it falls.
    stride
        Crops are multiples of this.
    report_edge
        Edge of what the report denoises, in pixels: the published networks are slow.
    flow_beside
        True where the network is built without the flow network, which its task takes instead, with the estimator.
    caution
        Returns how much an adaptation to movies holds on to what the start knew, 0 to 1; None for not at all.
    """

    name: str
    shape: type[Any]
    settings: type[FitSettings]
    result: type[FitResult[Any]]
    build: Callable[..., nn.Module]
    task: Callable[..., Task]
    denoise: Denoise
    score: str
    decay: float
    clip: float | None
    average: bool
    warm_up: bool
    stride: int
    report_edge: int
    flow_beside: bool = False
    caution: Callable[[FitSettings, Sequence[TrainingMovie]], float] | None = None

    def network(self, shape: Any, flow: nn.Module | None) -> nn.Module:
        """Return a new network, with the flow network inside where it belongs there."""
        if flow is None or self.flow_beside:
            return self.build(shape)
        return self.build(shape, copy.deepcopy(flow).requires_grad_(requires_grad=False))

    def make_task(
        self,
        movies: Sequence[TrainingMovie],
        settings: FitSettings,
        shape: Any,
        *,
        estimator: FlowEstimator,
        flow: nn.Module | None,
    ) -> Task:
        """Return the method's own part of a training."""
        beside = (estimator, flow) if self.flow_beside else ()
        return self.task(movies, settings, shape, *beside)

    def optimizer(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """Return the method's optimiser."""
        if self.decay == 0:
            return torch.optim.Adam(parameters, lr=rate)
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=self.decay)


def _denoise_live(
    network: LiveNet,
    frames: AnyMovie,
    intensity: Intensity,
    *,
    fields: npt.NDArray[np.float32] | None = None,
    on_share: Callable[[float], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    return denoise_reference(network, np.asarray(frames), intensity, fields=fields, on_share=on_share)[0]


METHODS = {
    method.name: method
    for method in (
        Method(
            name="live",
            shape=LiveNetSettings,
            settings=FitSettings,
            result=FitResult,
            build=LiveNet,
            task=LiveTask,
            denoise=_denoise_live,
            score="held-out negative log-likelihood of the measured pixels, in nats a pixel",
            decay=1e-4,
            clip=5.0,
            average=True,
            warm_up=True,
            stride=LiveNet.stride,
            report_edge=512,
            caution=caution_of,
        ),
        Method(
            name="umvd",
            shape=UmvdSettings,
            settings=UmvdFitSettings,
            result=FitResult,
            build=Umvd,
            task=UmvdTask,
            denoise=denoise_umvd,
            score="held-out squared error to the noisy centre, in variances of the noise",
            decay=0.0,
            clip=None,
            average=False,
            warm_up=False,
            stride=STRIDE,
            report_edge=160,
        ),
        Method(
            name="sts-uvd",
            shape=StsUvdSettings,
            settings=StsUvdFitSettings,
            result=StsUvdFit,
            build=StsUvd,
            task=StsUvdTask,
            denoise=denoise_sts_uvd,
            score="held-out squared error to the noisy centre, in variances of the noise",
            decay=0.0,
            clip=None,
            average=False,
            warm_up=False,
            stride=STRIDE,
            report_edge=160,
            flow_beside=True,
        ),
    )
}


def method_named(name: str) -> Method:
    """Return a method of the table, or say which there are."""
    if name not in METHODS:
        raise InvalidInput(f"There is no method `{name}`: choose one of {', '.join(METHODS)}.")
    return METHODS[name]
