"""Exposure, region and binning of a camera that denoscope drives: checked, set, noted, put back.

A real core is set in `test_sources`.
"""

from __future__ import annotations

from typing import Any

import pytest

from denoscope.acquisition import make_settings
from denoscope.acquisition.errors import SourceUnavailable
from denoscope.acquisition.sources import CameraChoice, open_source, parse_roi
from denoscope.acquisition.sources.micromanager.camera import SetCamera
from denoscope.runtime import InvalidInput


class Core:
    """A camera as Micro-Manager shows it: 600 x 400 pixels, region in steps of `step`, whose binning clears it."""

    def __init__(self, *, step: int = 1, binnings: tuple[str, ...] = ("1x1", "2x2"), stuck: str = "") -> None:
        self.step, self.binnings, self.stuck = step, binnings, stuck
        self.exposure, self.binning = 10.0, binnings[0] if binnings else ""
        self.roi = [4, 4, 500, 300]

    @property
    def state(self) -> tuple[Any, ...]:
        return self.exposure, self.binning, self.roi

    def has_property(self, _camera: str, name: str) -> bool:
        return name == "Exposure" or bool(self.binnings)

    def has_property_limits(self, _camera: str, name: str) -> bool:
        return name == "Exposure"

    def get_property_lower_limit(self, _camera: str, _name: str) -> float:
        return 0.5

    def get_property_upper_limit(self, _camera: str, _name: str) -> float:
        return 2000.0

    def get_allowed_property_values(self, _camera: str, _name: str) -> tuple[str, ...]:
        return self.binnings

    def get_property(self, _camera: str, _name: str) -> str:
        return self.binning

    def set_property(self, _camera: str, _name: str, value: str) -> None:
        if self.stuck != "binning":
            self.binning = value
        self.clear_roi()

    def get_exposure(self) -> float:
        return self.exposure

    def set_exposure(self, value: float) -> None:
        if self.stuck == "exposure_ms":
            raise RuntimeError("device is busy")
        self.exposure = round(value)

    def _size(self) -> tuple[int, int]:
        by = int(self.binning[:1] or 1)
        return 600 // by, 400 // by

    def get_image_width(self) -> int:
        return self.roi[2]

    def get_image_height(self) -> int:
        return self.roi[3]

    def get_roi(self) -> list[int]:
        return self.roi

    def clear_roi(self) -> None:
        self.roi = [0, 0, *self._size()]

    def set_roi(self, *roi: int) -> None:
        self.roi = [value // self.step * self.step for value in roi]


def test_what_is_asked_for_is_set_noted_and_put_back() -> None:
    core = Core(step=8)
    before = core.state
    camera = SetCamera(core, "Cam", CameraChoice(exposure_ms=20.4, roi=(8, 16, 100, 120), binning=2))
    assert core.state == (20, "2x2", [8, 16, 96, 120])
    assert camera.record() == {
        "exposure_ms": {"asked": 20.4, "set": 20.0},
        "roi_px": {"asked": [8, 16, 100, 120], "set": [8, 16, 96, 120]},
        "binning": {"asked": 2, "set": "2x2"},
    }
    assert camera.notes == ["the camera Cam reads the region 8,16,96,120, and 8,16,100,120 was asked for"]
    core.step = 1
    camera.restore()
    assert core.state == before
    core.exposure = 77.0
    camera.restore()  # somebody else's from now on
    assert core.exposure == 77.0


def test_binning_alone_reads_the_whole_sensor_and_the_region_comes_back() -> None:
    core = Core(binnings=("1", "2", "4"))
    before = core.state
    camera = SetCamera(core, "Cam", CameraChoice(binning=4))
    assert core.state == (10.0, "4", [0, 0, 150, 100])
    camera.restore()
    assert core.state == before
    assert SetCamera(core, "Cam", CameraChoice(binning=1)).record() == {"binning": {"asked": 1, "set": "1"}}
    assert core.state == before  # it had that binning


@pytest.mark.parametrize(
    ("choice", "core", "words"),
    [
        (CameraChoice(exposure_ms=0.1), {}, "`exposure_ms` 0.1: the camera Cam takes 0.5 to 2000 ms"),
        (CameraChoice(exposure_ms=2001.0), {}, "takes 0.5 to 2000 ms"),
        (CameraChoice(binning=3), {}, "`binning` 3: the camera Cam has 1x1, 2x2"),
        (CameraChoice(binning=2), {"binnings": ()}, "has no binning"),
        (CameraChoice(roi=(500, 0, 101, 5)), {}, "`roi` 500,0,101,5 reaches beyond .* 600 x 400 pixels"),
        (CameraChoice(roi=(0, 0, 301, 5), binning=2), {}, "300 x 200 pixels"),
    ],
)
def test_what_the_camera_cannot_have_is_refused_and_nothing_changed(
    choice: CameraChoice, core: dict[str, Any], words: str
) -> None:
    camera = Core(**core)
    before = camera.state
    with pytest.raises(InvalidInput, match=words):
        SetCamera(camera, "Cam", choice)
    assert camera.state == before


@pytest.mark.parametrize("stuck", ["exposure_ms", "binning"])
def test_a_camera_that_does_not_take_a_value_has_the_others_back(stuck: str) -> None:
    core = Core(stuck=stuck)
    before = core.state
    with pytest.raises(SourceUnavailable, match=f"`{stuck}`"):
        SetCamera(core, "Cam", CameraChoice(exposure_ms=50.0, roi=(0, 0, 8, 8), binning=2))
    assert core.state == before


def test_a_camera_that_refuses_at_the_end_is_told() -> None:
    core = Core()
    camera = SetCamera(core, "Cam", CameraChoice(exposure_ms=50.0, roi=(0, 0, 8, 8)))
    core.stuck = "exposure_ms"
    with pytest.raises(
        SourceUnavailable, match="`exposure_ms` of the camera Cam could not be put back: device is busy"
    ):
        camera.restore()
    assert core.roi == [4, 4, 500, 300]


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "1,2,3,-4", "0,0,0,5", "", "1,2,3,4,5", "1.5,0,8,8"])
def test_regions_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="`roi`"):
        parse_roi(text)
    with pytest.raises(InvalidInput, match="`roi`"):
        make_settings(core="a.cfg", output="run", roi=text)


@pytest.mark.parametrize("core", ["demo", "127.0.0.1:4827", "replay:movie.tif", "watch:folder"])
def test_other_cameras_are_set_elsewhere(core: str) -> None:
    with pytest.raises(InvalidInput, match=f"`binning` needs a camera that denoscope drives .*{core}"):
        open_source(core, camera=CameraChoice(binning=2))
