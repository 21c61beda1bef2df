"""Prediction of the denoised picture at less light."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PrivateAttr

from .record import Record

__all__ = ["LightBudget", "LightStep"]


class LightStep(Record):
    """Prediction for a share of the light.

    Attributes
    ----------
    share
        Of the light that the movie was recorded with.
    psnr_db, loss_db
        Predicted PSNR of the denoised picture, and how much less that is than at full light.
    """

    share: float
    psnr_db: float
    loss_db: float

    @property
    def words(self) -> str:
        """The share in words."""
        return {0.5: "half", 0.25: "a quarter"}.get(self.share, f"{self.share:.0%}")


class LightBudget(Record):
    """Prediction of `denoscope.acquisition.light_budget`.

    Attributes
    ----------
    psnr_db
        Predicted PSNR of the denoised picture as it was recorded; its range is that of the denoised frames.
    steps
        At less light.
    dark, read_noise, photons
        Counts without light and variance of the camera without light, in counts, as they were taken; photons a pixel.
    """

    psnr_db: float
    steps: list[LightStep] = Field(default_factory=list)
    dark: float = 0.0
    read_noise: float = 0.0
    photons: float | None = None
    _pictures: list[Any] = PrivateAttr(default_factory=list)

    @property
    def pictures(self) -> list[Any]:
        """Raw, denoised, and denoised at less light, (H, W) each; empty unless they were asked for."""
        return self._pictures

    def keep_pictures(self, pictures: list[Any]) -> None:
        """Keep pictures to be drawn."""
        self._pictures = pictures

    def half(self) -> str:
        """Return what half of the light would cost as one sentence; empty where that was not asked for."""
        found = next((step.loss_db for step in self.steps if step.share == 0.5), None)
        return "" if found is None else f"At half the light the picture would lose about {found:.1f} dB."

    def sentence(self) -> str:
        """Return the prediction as one sentence."""
        names = {0.5: "half", 0.25: "a quarter of"}
        losses = [
            f"{step.loss_db:.1f} dB at {names.get(step.share, step.words + ' of')} the light"
            for step in self.steps
        ]
        return f"with less light the denoised picture would lose about {' and '.join(losses)}"
