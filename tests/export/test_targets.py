"""GPUs and frame sizes as people write them."""

from __future__ import annotations

import pytest

from denoscope.export import GPUS, Target, parse_range, parse_size, parse_targets
from denoscope.export.sizes import canvas_ranges, scene_ranges, size_ranges  # ranges without engines
from denoscope.runtime import InvalidInput
from denoscope.runtime.motion.placement import Placement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtx3060", [(8, 6)]),
        ("RTX 4090, sm120", [(8, 9), (12, 0)]),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", [(8, 6)]),
        ("NVIDIA RTX 6000 Ada Generation,Quadro RTX 6000", [(8, 9), (7, 5)]),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", [(12, 0)]),
        ("8.6,sm86,sm_86,rtx3090", [(8, 6)]),
        ("12.1,sm100", [(12, 1), (10, 0)]),
    ],
)
def test_gpus_are_known_by_the_names_people_use(text: str, expected: list[tuple[int, int]]) -> None:
    assert [(t.major, t.minor) for t in parse_targets(text)] == expected


def test_every_gpu_of_the_table_is_found_by_its_own_name() -> None:
    for capability, names in GPUS.items():
        for name in names:
            assert parse_targets(name) == (Target(*capability),)
    assert sum(map(len, GPUS.values())) == len({n for names in GPUS.values() for n in names})


@pytest.mark.parametrize("text", ["", " , ", "rtx406", "8", "sm", "radeon", "sm86x"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"sm86|sm89"):
        parse_targets(text)


@pytest.mark.parametrize("text", ["512", "512x", "x", "512x512x3", "8x512", "512x100000", "-1x5", "٣x٣"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="`size`"):
        parse_size(text)


@pytest.mark.parametrize("text", ["64", "64..", "2048..64", "1..64", "64..99999", "64-2048"])
def test_other_ranges_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="`dynamic`"):
        parse_range(text)


def test_sizes_are_padded_as_the_stream_pads_them() -> None:
    found = size_ranges([parse_size("500x640"), (504, 640), (64, 64)], parse_range("60..2047"), 8)
    assert [str(size) for size in found] == ["504x640", "64x64", "64x64..2048x2048"]
    assert found[-1].typical == (504, 640), "fastest at the first size asked for"
    assert size_ranges([], (64, 256), 8)[0].typical == (256, 256)
    assert size_ranges([], (64, 2048), 8)[0].typical == (512, 512)
    with pytest.raises(InvalidInput, match="No frame size"):
        size_ranges([], None, 8)


def test_a_scene_that_is_followed_reaches_beyond_the_frame() -> None:
    ranges = size_ranges([(250, 300)], (64, 256), 4)
    assert [str(size) for size in scene_ranges(ranges, 4)] == ["252x300..284x332", "64x64..288x288"]
    assert [str(size) for size in canvas_ranges(ranges, 4)] == ["252x300", "284x332", "64x64..288x288"]
    for shape in ((250, 300), (64, 65)):
        scene = Placement(shape, None, follow=True, parts=True).scene
        height, width = (n + -n % 4 for n in scene)
        assert any(r.covers(height, width) for r in scene_ranges(size_ranges([shape], None, 4), 4))
        canvas = Placement(shape, None, follow=True).canvas
        assert canvas == scene
        assert any(r.covers(height, width) for r in canvas_ranges(size_ranges([shape], None, 4), 4))
