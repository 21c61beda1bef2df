"""Run a training in this process, or in one process for each of several devices (Lightning Fabric)."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from denoscope.runtime import InvalidInput, counted

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from denoscope.train.fit_settings import FitSettings

__all__ = ["on_devices"]


class Job(Protocol):
    """Devices and precision of a training; a dataclass with more."""

    @property
    def settings(self) -> FitSettings: ...

    @property
    def checkpoint(self) -> Path | None: ...


AnyJob = TypeVar("AnyJob", bound=Job)
Result = TypeVar("Result")
Report = Callable[[Any], None]
Training = Callable[["Fabric", AnyJob, Report], Result]


def on_devices(training: Training[AnyJob, Result], job: AnyJob, report: Report) -> Result:
    """Run `training(fabric, job, report)` on the devices that the job's settings ask for.

    Several devices get a process each; the result is then read back from the checkpoint, since weights
    are too large to send through a pipe.

    Raises
    ------
    InvalidInput
        If Lightning Fabric, the devices or the precision are not there.
    """
    settings = job.settings
    if find_spec("lightning_fabric") is None:
        raise InvalidInput(
            'training needs lightning_fabric, which is not installed: run python -m pip install ".[train]"'
            " in a copy of the denoscope repository."
        )
    cuda = torch.cuda.is_available()
    if settings.precision == "16-mixed" and not cuda:
        raise InvalidInput(
            "`precision` 16-mixed needs an NVIDIA GPU: choose 32 or bf16-mixed on a processor."
        )
    if cuda and settings.devices > torch.cuda.device_count():
        raise InvalidInput(
            f"`devices` {settings.devices}, and this computer has {counted(torch.cuda.device_count(), 'GPU')}: give as "
            "many or fewer."
        )
    if settings.devices == 1:
        return training(_fabric(settings, cuda=cuda), job, report)
    with tempfile.TemporaryDirectory() as folder:
        if job.checkpoint is None:
            job = replace(job, checkpoint=Path(folder) / "state.safetensors")  # type: ignore[type-var]
        _spawn(training, job, report, cuda=cuda)
        finished = replace(job, resume=True, log=None, events=None)  # type: ignore[type-var]
        return training(_fabric(replace(settings, devices=1), cuda=cuda), finished, lambda _: None)


def _fabric(settings: FitSettings, *, cuda: bool) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    several = settings.devices > 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=settings.devices,
        strategy="ddp_spawn" if several else "auto",
        precision="32-true" if settings.precision == "32" else settings.precision,
        plugins=LightningEnvironment(),  # a scheduler's variables must not decide where we run
    )


def _spawn(training: Training[AnyJob, Result], job: AnyJob, report: Report, *, cuda: bool) -> None:
    """Run one process for each device and pass on what the first of them reports."""
    context = torch.multiprocessing.get_context("spawn")
    news = context.SimpleQueue()
    failures: list[InvalidInput] = []

    def listen() -> None:
        while (item := news.get()) is not None:
            if isinstance(item, InvalidInput):
                failures.append(item)
            else:
                report(item)

    listener = threading.Thread(target=listen, name="training-news", daemon=True)
    listener.start()
    try:
        _fabric(job.settings, cuda=cuda).launch(_InProcess(training, job, news))
    except ProcessRaisedException:
        news.put(None)
        listener.join()
        if failures:
            raise failures[0] from None
        raise
    finally:
        if listener.is_alive():
            news.put(None)
            listener.join()


class _InProcess:
    """Body of one of several processes."""

    def __init__(self, training: Training[AnyJob, Result], job: AnyJob, news: Any) -> None:
        self._training, self._job, self._news = training, job, news

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The first of our lines that the new process runs: before Fabric announces its processes.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.__dict__.update(state)

    def __call__(self, fabric: Fabric) -> None:
        try:
            self._training(fabric, self._job, self._news.put if fabric.is_global_zero else lambda _: None)
        except InvalidInput as error:
            self._news.put(error)
            raise
