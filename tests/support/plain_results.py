"""Public functions whose results are shown as the JSON that goes into files: most tests look at that."""

from __future__ import annotations

from typing import Any

from denoscope import acquisition
from denoscope.acquisition.control import control
from denoscope.acquisition.notes import noise_check
from denoscope.acquisition.results import Record, SessionReport
from denoscope.acquisition.session.ending.summary import summary as summary_of

__all__ = ["ask", "check_noise", "denoise_movie", "doctor", "fill_run", "live", "summary"]


def _plain(result: Record | None) -> Any:
    return None if result is None else result.as_json()


def ask(*values: Any, **named: Any) -> dict[str, Any]:
    return _plain(control.ask(*values, **named))


def check_noise(*values: Any, **named: Any) -> dict[str, Any] | None:
    return _plain(noise_check.check_noise(*values, **named))


def denoise_movie(*values: Any, **named: Any) -> dict[str, Any]:
    return _plain(acquisition.denoise_movie(*values, **named))


def doctor(*values: Any, **named: Any) -> dict[str, Any]:
    return _plain(acquisition.doctor(*values, **named))


def fill_run(*values: Any, **named: Any) -> dict[str, Any]:
    return _plain(acquisition.fill_run(*values, **named))


def live(*values: Any, **named: Any) -> dict[str, Any]:
    return _plain(acquisition.live(*values, **named))


def summary(report: dict[str, Any]) -> str:
    return summary_of(SessionReport.model_validate(report))
