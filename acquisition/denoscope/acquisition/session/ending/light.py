"""The light budget of a recording that has ended: what the denoised picture would lose at half of the light."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from denoscope.acquisition.errors import one_line
from denoscope.acquisition.raw.writer import raw_pages
from denoscope.acquisition.session.opening.open_run import predicts_std
from denoscope.runtime import DenoscopeError

if TYPE_CHECKING:
    from denoscope.acquisition.results import SessionReport
    from denoscope.acquisition.session.opening.open_run import OpenRun
    from denoscope.runtime import AnyMovie

__all__ = ["predict_light"]

_FRAMES, _SIDE = 80, 128  # a few seconds of computing
_QUICK = ("openvino", "openvino-bf16", "onnxruntime-cpu")  # they take any picture size, and build no engine


def predict_light(run: OpenRun, report: SessionReport) -> None:
    """Add the light budget to the report, where the raw frames are here and their noise tells it."""
    settings = run.settings
    whole = settings.keep_raw and run.files.raw.restored is None and len(run.routes.received) == 1
    if not whole or run.camera is not None or not predicts_std(settings.bundle):
        return
    from denoscope.acquisition.offline.light_budget import LEAST_FRAMES, light_budget

    if report.frames.written_raw < LEAST_FRAMES:
        return
    used = report.denoiser.backend
    try:
        report.light = light_budget(
            cast("AnyMovie", raw_pages(run.files.folder)),
            settings.bundle,
            backend=used if used in _QUICK else _QUICK[-1],
            look_ahead=settings.look_ahead,
            dark=settings.dark or None,
            shares=(0.5,),
            frames=_FRAMES,
            side=_SIDE,
        )
    except (DenoscopeError, OSError):  # frames of several sizes, noise that does not grow with the light
        return
    except Exception as error:  # noqa: BLE001  a prediction must not hide the report
        report.outcome.notes.append(
            f"the light budget could not be computed ({type(error).__name__}: {one_line(error)})"
        )
