"""Exposure, region and binning of a camera that denoscope drives: set before it starts, put back afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from denoscope.acquisition.errors import SourceUnavailable, one_line
from denoscope.runtime import InvalidInput

__all__ = ["AS_IT_IS", "CameraChoice", "SetCamera", "parse_roi"]

_BINNING = "Binning"
_EXPOSURE = "Exposure"
_PUT_BACK = ("binning", "roi", "exposure_ms")  # most cameras change or forget their region with the binning
_NEAR = 0.02  # share by which a camera may round an exposure

Roi = tuple[int, int, int, int]


def parse_roi(text: str) -> Roi:
    """Return ``x,y,width,height`` as numbers.

    Raises
    ------
    InvalidInput
        When these are not four whole numbers, the last two at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise InvalidInput(
            f"`roi` {text} is not four whole numbers: give x,y,width,height, like 128,0,512,512."
        )
    x, y, width, height = (int(part) for part in parts)
    if not width or not height:
        raise InvalidInput(f"`roi` {text} holds no pixel: width and height are at least 1.")
    return x, y, width, height


@dataclass(frozen=True, slots=True)
class CameraChoice:
    """Settings of the camera that a recording asks for; None leaves one as it is.

    Parameters
    ----------
    exposure_ms
        Exposure in milliseconds.
    roi
        Region ``(x, y, width, height)`` of the sensor, in pixels after binning.
    binning
        Pixels that are read as one, along each axis.
    """

    exposure_ms: float | None = None
    roi: Roi | None = None
    binning: int | None = None

    @property
    def names(self) -> list[str]:
        """Parameters that are not None."""
        return [name for name in ("exposure_ms", "roi", "binning") if getattr(self, name) is not None]

    def refuse(self, core: str) -> None:
        """Refuse settings for a source whose camera denoscope does not drive.

        Raises
        ------
        InvalidInput
            When there are any.
        """
        if self.names:
            raise InvalidInput(
                f"`{self.names[0]}` needs a camera that denoscope drives (`core` FILE.cfg), and `core` {core} is none: "
                "leave it out, or set it in the program that drives the camera."
            )


AS_IT_IS = CameraChoice()


class SetCamera:
    """Camera of a core with the settings of one recording; `restore` puts the former ones back.

    Parameters
    ----------
    core
        Core of Micro-Manager with snake-case names; its camera does not run.
    camera
        Label of the camera.
    choice
        What to set.

    Raises
    ------
    InvalidInput
        When the camera cannot have a value; nothing is changed then.
    SourceUnavailable
        When the camera does not take one; what was set is put back.
    """

    def __init__(self, core: Any, camera: str, choice: CameraChoice) -> None:
        self._core, self._camera, self._choice = core, camera, choice
        self._before: dict[str, Any] = {}
        self.notes: list[str] = []
        """Sentences about values that the camera has rounded, without their full stops."""
        self._check_exposure()
        binning = self._binning()
        try:
            if binning is not None:
                self._set_binning(binning)
            if choice.roi is not None:
                self._set_roi(choice.roi)
            if choice.exposure_ms is not None:
                self._set_exposure(choice.exposure_ms)
        except BaseException:
            self.restore()
            raise

    def record(self) -> dict[str, object]:
        """Return what was asked for and what the camera has, for the run's metadata."""
        core, asked = self._core, self._choice
        now: dict[str, object] = {}
        if asked.exposure_ms is not None:
            now["exposure_ms"] = {"asked": asked.exposure_ms, "set": float(core.get_exposure())}
        if asked.roi is not None:
            now["roi_px"] = {"asked": list(asked.roi), "set": self._roi()}
        if asked.binning is not None:
            now["binning"] = {"asked": asked.binning, "set": str(core.get_property(self._camera, _BINNING))}
        return now

    def restore(self) -> None:
        """Put back what was changed; a second call does nothing.

        Raises
        ------
        SourceUnavailable
            When the camera refuses; the rest was put back.
        """
        core, problems = self._core, []
        before, self._before = self._before, {}
        for what in (name for name in _PUT_BACK if name in before):
            value = before[what]
            try:
                if what == "exposure_ms":
                    core.set_exposure(value)
                elif what == "binning":
                    core.set_property(self._camera, _BINNING, value)
                else:
                    core.clear_roi()
                    if self._roi() != value:
                        core.set_roi(*value)
            except (RuntimeError, OSError, ValueError) as error:
                problems.append(
                    f"`{what}` of the camera {self._camera} could not be put back: {one_line(error)}"
                )
        if problems:
            raise SourceUnavailable("; ".join(problems) + ".")

    # -- exposure

    def _check_exposure(self) -> None:
        core, asked = self._core, self._choice.exposure_ms
        if asked is None or not core.has_property(self._camera, _EXPOSURE):
            return
        if not core.has_property_limits(self._camera, _EXPOSURE):
            return
        low = float(core.get_property_lower_limit(self._camera, _EXPOSURE))
        high = float(core.get_property_upper_limit(self._camera, _EXPOSURE))
        if not low <= asked <= high:
            raise InvalidInput(
                f"`exposure_ms` {asked:g}: the camera {self._camera} takes {low:g} to {high:g} ms; give a number "
                "between these."
            )

    def _set_exposure(self, asked: float) -> None:
        self._change("exposure_ms", float(self._core.get_exposure()), lambda: self._core.set_exposure(asked))
        got = float(self._core.get_exposure())
        if abs(got - asked) > _NEAR * asked:
            self.notes.append(
                f"the camera {self._camera} exposes for {got:g} ms, and {asked:g} ms were asked for"
            )

    # -- binning

    def _binning(self) -> str | None:
        """Return the asked binning in the camera's words."""
        asked, core = self._choice.binning, self._core
        if asked is None:
            return None
        if not core.has_property(self._camera, _BINNING):
            raise InvalidInput(f"`binning` {asked}: the camera {self._camera} has no binning; leave it out.")
        words = [str(word) for word in core.get_allowed_property_values(self._camera, _BINNING)]
        for word in words or [str(asked)]:
            if word.lower().replace(" ", "") in (str(asked), f"{asked}x{asked}"):
                return word
        raise InvalidInput(
            f"`binning` {asked}: the camera {self._camera} has {', '.join(words)}; give one of these as a number."
        )

    def _set_binning(self, word: str) -> None:
        core, camera = self._core, self._camera
        before = str(core.get_property(camera, _BINNING))
        if before == word:
            return
        self._before.setdefault("roi", self._roi())
        self._change("binning", before, lambda: core.set_property(camera, _BINNING, word))
        if self._choice.roi is None:
            self._call("roi", core.clear_roi)
        got = str(core.get_property(camera, _BINNING))
        if got != word:
            raise SourceUnavailable(
                f"`binning` {word}: the camera {camera} stays at {got}; leave it out, or set it in Micro-Manager."
            )

    # -- region

    def _roi(self) -> list[int]:
        return [int(value) for value in self._core.get_roi()]

    def _set_roi(self, asked: Roi) -> None:
        core = self._core
        self._change("roi", self._roi(), core.clear_roi)
        width, height = int(core.get_image_width()), int(core.get_image_height())
        x, y, across, down = asked
        text = ",".join(map(str, asked))
        if x + across > width or y + down > height:
            raise InvalidInput(
                f"`roi` {text} reaches beyond the sensor of the camera {self._camera}, which has {width} x {height} "
                "pixels (width x height) at this binning; give a region inside it."
            )
        self._call("roi", lambda: core.set_roi(*asked))
        got = self._roi()
        if got != list(asked):
            self.notes.append(
                f"the camera {self._camera} reads the region {','.join(map(str, got))}, and {text} was asked for"
            )

    # -- changes

    def _change(self, what: str, before: Any, change: Any) -> None:
        self._before.setdefault(what, before)
        self._call(what, change)

    def _call(self, what: str, change: Any) -> None:
        try:
            change()
        except (RuntimeError, OSError, ValueError) as error:
            raise SourceUnavailable(
                f"the camera {self._camera} did not take `{what}` {getattr(self._choice, what)}: {one_line(error)}; "
                "give another value."
            ) from error
