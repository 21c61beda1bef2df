from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
from ome_types import from_tiff, from_xml

from denoscope.acquisition import OutputExists, SourceInfo
from denoscope.acquisition.contracts import Stamp
from denoscope.acquisition.sinks.ome import DenoisedWriter
from denoscope.runtime import Denoised, FrameMeta, StageTimes

INFO = SourceInfo(
    "demo", "demo", "Cam", (6, 8), np.dtype(np.uint16), pixel_size_um=0.5, exposure_s=0.02, frame_rate_hz=50.0
)


def output(number: int, shape: tuple[int, int] = (6, 8)) -> Denoised:
    times = StageTimes(0, 0, 0, 0, 0, 0)
    return Denoised(
        np.full(shape, number, np.uint16), None, FrameMeta(number=number, t_received_s=0.0), times
    )


def write(folder: Path, indices: list[int], length: int) -> Path:
    writer = DenoisedWriter(folder, INFO, {"version": "1", "bundle": "tiny", "intensity": {"offset": 3.0}})
    for index in indices:
        writer.append(output(index), Stamp(index, index / 50, None, 0.0))
    writer.length = length
    writer.close()
    writer.close()
    return writer.path


def test_metadata(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 1, 2, 3], 4)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("TYX", (4, 6, 8))
        assert np.array_equal(tiff.asarray()[:, 0, 0], [0, 1, 2, 3])
    ome = from_tiff(path)
    pixels = ome.images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_y) == (0.5, 0.5)
    assert pixels.time_increment == pytest.approx(0.02)
    assert pixels.channels[0].name == "Cam"
    assert [plane.delta_t for plane in pixels.planes] == pytest.approx([0, 0.02, 0.04, 0.06])
    assert {plane.exposure_time for plane in pixels.planes} == {0.02}
    annotation = {pair.k: pair.value for pair in ome.structured_annotations.map_annotations[0].value.ms}
    assert json.loads(annotation.pop("streams")) == [
        {"camera": "", "position": 0, "channels": [""], "slices": [0], "first_index": 0}
    ]
    assert annotation == {"version": "1", "bundle": "tiny", "intensity": '{"offset": 3.0}'}


@pytest.mark.parametrize("objective", [None, 'Plan <10x> & "dry"\x00'])
def test_the_text_is_what_the_library_of_the_format_writes(tmp_path: Path, objective: str | None) -> None:
    details = {} if objective is None else {"objective": objective}
    source = replace(INFO, details=details, pixel_size_um=1e-7, exposure_s=1 / 3, channel="GFP, α\t& <b>")
    writer = DenoisedWriter(tmp_path, source, {"version": "1", "note": "<two>\nlines \x01", "number": 1})
    for index in (0, 1, 4):
        writer.append(output(index), Stamp(index, index / 7, None, 0.0))
    writer.append(output(5, (4, 4)), Stamp(5, 5 / 7, None, 0.0))
    writer.close()
    with tifffile.TiffFile(writer.path) as tiff:
        text = tiff.ome_metadata
    assert text is not None
    assert "\N{REPLACEMENT CHARACTER}" in text
    again = from_xml(text).to_xml(indent=0)
    assert ET.canonicalize(text) == ET.canonicalize(again)


def test_skipped_frames_keep_their_time(tmp_path: Path) -> None:
    path = write(tmp_path, [0, 1, 4, 5, 7], 9)
    ome = from_tiff(path)
    pixels = ome.images[0].pixels
    assert pixels.size_t == 9
    assert [(b.ifd, b.first_t, b.plane_count) for b in pixels.tiff_data_blocks] == [(0, 0, 9)]
    with tifffile.TiffFile(path) as tiff:
        pages = [int(page.asarray()[0, 0]) for page in tiff.pages]
        assert list(tiff.asarray()[:, 0, 0]) == pages
    assert pages == [0, 1, 1, 1, 4, 5, 5, 7, 7]  # the frame before, for readers that know no gaps
    annotation = {pair.k: pair.value for pair in ome.structured_annotations.map_annotations[0].value.ms}
    assert json.loads(annotation["streams"])[0]["not_denoised"] == [
        {"channel": "", "z": 0, "shows": "repeated", "indices": [[2, 3], [6, 6], [8, 8]]}
    ]


def test_a_change_of_shape_starts_another_image(tmp_path: Path) -> None:
    writer = DenoisedWriter(tmp_path, INFO, {})
    for index in range(5):
        writer.append(output(index, (6, 8) if index < 3 else (4, 4)), Stamp(index, 0.0, 1e9 + index, 0.0))
    writer.length = 6
    writer.close()
    with tifffile.TiffFile(writer.path) as tiff:
        assert [series.shape for series in tiff.series] == [(3, 6, 8), (3, 4, 4)]


def test_readable_without_its_end(tmp_path: Path) -> None:
    writer = DenoisedWriter(tmp_path, INFO, {})
    writer.append(output(0), Stamp(0, 0.0, None, 0.0))
    writer.append(output(1), Stamp(1, 0.0, None, 0.0))
    with tifffile.TiffFile(writer.path) as tiff:
        assert len(tiff.pages) == 2
    writer.close()


def test_empty_and_existing(tmp_path: Path) -> None:
    write(tmp_path, [], 3)
    with pytest.raises(OutputExists):
        DenoisedWriter(tmp_path, INFO, {})
