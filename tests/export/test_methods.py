"""Bundles of the published methods run live as their networks do, whole window by whole window."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from denoscope.export import Target, build_engine, export_bundle, load_bundle_flow, load_network, plan_engines
from denoscope.export.engines import installed  # is the builder installed
from denoscope.export.half import half_precision, rounded_like_half  # the rewriting itself
from denoscope.runtime import Bundle, FrameMeta, Intensity, InvalidInput, Stream
from denoscope.runtime.backends import Backend
from denoscope.runtime.engines import EngineCache
from denoscope.runtime.motion import both_ways
from denoscope.runtime.motion.both_ways import placed_both_ways
from denoscope.runtime.motion.placement import REACH, Placement
from denoscope.runtime.stream import stream as stream_module
from denoscope.train import (
    LiveNet,
    LiveNetSettings,
    StsUvd,
    StsUvdSettings,
    Umvd,
    UmvdSettings,
    denoise_reference,
    denoise_umvd,
)
from denoscope.train.flow.net import load_flow
from denoscope.train.networks.live.guide import lead_to_centre, resize_flow
from support.wrapped_backends import DeviceBackend

SMALL = {"window": 3, "features": 3, "width": 4, "wide": 6, "head": 8}
NARROW = {"encode_channels": 4, "encode_width": 6, "trunk_width": 8, "deep_width": 8, "spatial_channels": 3}
CAMERA = Intensity(offset=3.0, scale=2.0, noise_slope=0.3, noise_floor=0.2)
FOLLOWING = (
    "live",
    "live with flows",
    "live of both sides",
)  # both are told how far off the scene a frame lies
# Of the flow network. A builder takes a minute for the second pass, which has the operators of the first.
PASSES = {"sts-uvd": 2, "sts-uvd in one pass": 1}
METHODS = ("umvd", "umvd with a baseline", "umvd with a baseline and a gain", "sts-uvd", *FOLLOWING)
WITH_ENGINES = tuple("sts-uvd in one pass" if m == "sts-uvd" else m for m in METHODS)


def some(
    methods: Iterable[str], later: Iterable[str] = ("umvd", "umvd with a baseline", "live", "sts-uvd")
) -> list[Any]:
    """Return the methods; those whose graphs another has too are slow."""
    return [pytest.param(m, marks=pytest.mark.slow) if m in later else m for m in methods]


def each_on_one(methods: Iterable[str], backends: Iterable[str], everywhere: str) -> list[Any]:
    """Return methods with backends: one method on all of them, the others on the first, and the rest slow."""
    first, *others = backends
    pairs = [(method, first) for method in some(methods)]
    pairs += [
        (m if m == everywhere else pytest.param(m, marks=pytest.mark.slow), b)
        for m in methods
        for b in others
    ]
    return [pytest.param(*(getattr(m, "values", (m,))), b, marks=getattr(m, "marks", ())) for m, b in pairs]


FloatArray = npt.NDArray[np.float32]
Network = Umvd | StsUvd | LiveNet


def untrained(method: str) -> Network:
    torch.manual_seed(3)
    if method.startswith("sts-uvd"):
        return StsUvd(StsUvdSettings(**SMALL)).eval()
    if method in FOLLOWING:
        guided = method == "live with flows"
        both = method == "live of both sides"
        settings = LiveNetSettings(
            window=3, look_ahead=1, guided=guided, subpixel=True, two_sided=both, **NARROW
        )
        return LiveNet(settings, load_flow(passes=1) if guided else None).eval()
    baseline = 4.0 if "baseline" in method else None
    amplify = 3.0 if "gain" in method else 1.0
    return Umvd(UmvdSettings(**SMALL, baseline_frames=baseline, amplify=amplify)).eval()


class _Made(dict[str, tuple[Network, Bundle]]):
    """Networks and their bundles, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, method: str) -> tuple[Network, Bundle]:
        network = untrained(method)
        flow = load_flow(passes=PASSES[method]) if method in PASSES else None
        bundle = export_bundle(network, self._folder / method, name=method, trained_on=["nothing"], flow=flow)
        self[method] = network, bundle
        return self[method]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Network, Bundle]]:
    return _Made(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def movie() -> FloatArray:
    """A slowly changing scene with noise, of an odd size."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((21, 30))
    scene = [4 + 3 * np.sin(rows / 3 + t / 4) * np.cos(columns / 5) for t in range(12)]
    return (np.stack(scene) + rng.normal(0, 1, (12, 21, 30))).astype(np.float32)


def reference(network: Network, movie: FloatArray) -> FloatArray:
    """Return the torch network's output for each whole window."""
    if isinstance(network, Umvd):
        return denoise_umvd(network, movie, CAMERA)
    if isinstance(network, LiveNet):
        return denoise_reference(network, movie, CAMERA)[0]
    length, height, width = movie.shape
    z = torch.from_numpy((movie - CAMERA.offset) / np.float32(CAMERA.scale))[None]
    z = functional.pad(z, (0, -width % 4, 0, -height % 4), mode="replicate")[0]
    noise, window = torch.tensor([CAMERA.noise_slope, CAMERA.noise_floor]), network.settings.window
    result, flow = np.empty_like(movie), load_flow()
    for centre in range(length):
        indices = range(centre - window // 2, centre + window // 2 + 1)
        there = [0 <= i < length for i in indices]
        frames = torch.stack(
            [z[i] if ok else torch.zeros_like(z[0]) for i, ok in zip(indices, there, strict=True)]
        )
        with torch.inference_mode():
            flows = [
                flow(frames[i][None, None], frames[i + 1][None, None], noise)
                * float(there[i] and there[i + 1])
                for i in range(window - 1)
            ]
            leads = torch.stack([resize_flow(d, 4.0) for d in lead_to_centre(flows, window // 2, 4)], 1)
            predicted = network(frames[None], torch.tensor([there]).float(), leads)
        result[centre] = predicted[0, 0, :height, :width].numpy() * CAMERA.scale + CAMERA.offset
    return result


def streamed(
    bundle: Bundle, movie: npt.NDArray[Any], backend: str, *, align: bool = False
) -> npt.NDArray[Any]:
    with contextlib.ExitStack() as stack:
        opened: str | Backend = backend
        if backend == "device":
            opened = stack.enter_context(DeviceBackend(threads=1))
        threads = None if backend == "device" else 1
        stream = stack.enter_context(Stream(bundle, opened, intensity=CAMERA, align=align, threads=threads))
        outputs = []
        stream.survey(movie, 0, len(movie))
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number, 0.0))
        outputs += stream.flush()
    assert [o.meta.number for o in outputs] == list(range(len(movie)))
    return np.stack([o.frame for o in outputs])


@pytest.mark.parametrize(
    ("method", "backend"),
    each_on_one(METHODS, ("onnxruntime-cpu", "openvino"), "umvd with a baseline and a gain"),
)
def test_a_stream_equals_the_whole_windows(
    bundles: dict[str, tuple[Network, Bundle]], movie: FloatArray, method: str, backend: str
) -> None:
    network, bundle = bundles[method]
    expected = reference(network, movie)
    found = streamed(bundle, movie, backend)
    size = np.abs(expected - CAMERA.offset).max()
    assert np.abs(found - expected).max() <= (1e-4 if bundle.manifest.flow_scale else 1e-5) * size
    counts = movie.clip(0, 255).astype(np.uint8)
    rounded = streamed(bundle, counts, backend)
    assert rounded.dtype == np.uint8
    unrounded = reference(network, counts.astype(np.float32)).clip(0, 255)
    assert np.abs(rounded - unrounded).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("method", "backend"),
    each_on_one(FOLLOWING, ("onnxruntime-cpu", "openvino", "device"), "live of both sides"),
)
def test_a_stream_of_a_moving_scene_equals_the_whole_windows(
    bundles: dict[str, tuple[Network, Bundle]], method: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(both_ways, "_LEAST", 0.0)  # though parts hardly move here
    network, bundle = bundles[method]
    assert isinstance(network, LiveNet)
    rng = np.random.default_rng(1)
    scene = ndimage.gaussian_filter(rng.random((80, 90)) ** 8, 1.5) * 2000
    steps = np.cumsum(rng.normal(0, 0.9, (14, 2)), 0)
    movie = np.stack([ndimage.shift(scene, step)[16:61, 16:66] for step in steps]).astype(np.float32)
    movie += rng.normal(0, 0.5, movie.shape).astype(np.float32)
    placement = Placement((45, 50), CAMERA, follow=True, parts=True)
    fields, moved = [], set()
    for frame in movie:
        placement.find(frame)
        fields.append(placement.displacement)
        moved.add(placement.whole)
    assert np.std(fields) > 0.1
    assert np.std(fields, axis=(2, 3)).max() > 0.01, "parts move too"
    assert len(moved) > 2
    if bundle.manifest.two_sided:
        fields = list(placed_both_ways(placement, dict(enumerate(fields)), lambda n: movie[n]).values())
    expected, _ = denoise_reference(network, movie, CAMERA, fields=np.array(fields), margin=REACH)
    found = streamed(bundle, movie, backend, align=True)
    size = np.abs(expected - CAMERA.offset).max()
    assert np.abs(found - expected).max() <= (1e-4 if bundle.manifest.flow_scale else 1e-5) * size
    blunt, _ = denoise_reference(network, movie, CAMERA)
    assert np.abs(blunt - expected).max() > 1e-2 * size


@pytest.mark.parametrize("case", ["one scene", "holes", "two scenes"])
def test_places_from_both_sides_are_of_one_movie_and_one_scene(
    bundles: dict[str, tuple[Network, Bundle]], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(both_ways, "_LEAST", 0.0)  # though parts hardly move here
    asked: list[list[bool]] = []

    def placed(placement: Any, found: Any, frame_of: Any) -> Any:
        asked.append([frame_of(number) is None for number in found])
        assert stream._binder.expects  # private: only a movie whose first frames are dark would show it
        return placed_both_ways(placement, found, frame_of)

    monkeypatch.setattr(stream_module, "placed_both_ways", placed)
    rng = np.random.default_rng(1)
    scene = ndimage.gaussian_filter(rng.random((80, 90)) ** 8, 1.5) * 2000
    steps = np.cumsum(rng.normal(0, 0.9, (14, 2)), 0)
    movie = [ndimage.shift(scene, step)[16:61, 16:66].astype(np.float32) for step in steps]
    if case == "holes":
        movie[5][3, 4] = np.nan
    if case == "two scenes":
        movie[7:] = [frame[:, :42] for frame in movie[7:]]
    with Stream(
        bundles["live of both sides"][1], "onnxruntime-cpu", intensity=CAMERA, align=True, threads=1
    ) as stream:

        def denoised() -> list[FloatArray]:
            outputs = [o for n, frame in enumerate(movie) for o in stream.push(frame, FrameMeta(n, 0.0))]
            return [output.frame for output in outputs + stream.flush()]

        alone = denoised()
        stream.expect(np.stack(movie[:5]))
        stream.survey(movie, 0, len(movie))
        denoised()
        again = denoised()  # another movie, which was not looked at before
    assert (
        asked == {"one scene": [[False] * 14], "holes": [[n == 5 for n in range(14)]], "two scenes": []}[case]
    )
    for one, other in zip(again, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", some(METHODS))
def test_the_manifest_says_what_the_method_has(
    bundles: dict[str, tuple[Network, Bundle]], method: str
) -> None:
    manifest = bundles[method][1].manifest
    assert manifest.method == method.split()[0]
    assert manifest.predicts_std == manifest.subpixel == (method in FOLLOWING)
    assert (manifest.window, manifest.look_ahead) == (3, 1)
    graphs = {
        "umvd": ("encode", "fuse"),
        "umvd with a baseline": ("encode", "remember", "fuse"),
        "umvd with a baseline and a gain": ("encode", "remember", "fuse"),
        "sts-uvd": ("encode", "motion", "fuse"),
        "live": ("encode", "align", "recall", "remember", "fuse"),
        "live with flows": ("encode", "motion", "align", "recall", "remember", "fuse"),
        "live of both sides": ("encode", "align", "recall", "fuse"),
    }
    assert manifest.graphs == graphs[method]
    if manifest.predicts_std:
        return
    with pytest.raises(InvalidInput, match="predicts no standard deviation"):
        Stream(bundles[method][1], "onnxruntime-cpu", std=True)


@pytest.mark.parametrize("method", some(METHODS))
def test_a_bundle_gives_its_network_back(bundles: dict[str, tuple[Network, Bundle]], method: str) -> None:
    network, bundle = bundles[method]
    again = load_network(Bundle.load(Path(bundle.folder)))
    assert type(again) is type(network)
    assert again.settings == network.settings
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)
    if bundle.manifest.flow_scale:
        found = load_bundle_flow(bundle)
        assert found.settings.passes == (1 if method == "live with flows" else 2)
        for name, value in load_flow().state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value, atol=0, rtol=0)
    else:
        with pytest.raises(InvalidInput, match="has no flow network"):
            load_bundle_flow(bundle)


@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="needs the extra 'gpu'")
@pytest.mark.parametrize("method", some(WITH_ENGINES, set(WITH_ENGINES) - {"umvd"}))
def test_engines_are_built_of_every_graph(
    bundles: dict[str, tuple[Network, Bundle]], tmp_path: Path, method: str
) -> None:
    bundle, cache = bundles[method][1], EngineCache(tmp_path / "engines")
    plans = plan_engines(bundle, [Target(8, 6)], [(48, 64)], dynamic=(16, 128), precision="fp32")
    graphs = [plan.spec.graph for plan in plans]
    assert list(dict.fromkeys(graphs)) == list(bundle.manifest.graphs)
    assert graphs.count("fuse") == 1 + bundle.manifest.predicts_std, "with the deviation and without"
    for plan in plans:
        contents = build_engine(plan, cache).manifest.contents
        graph = onnx.load_model_from_string(plan.onnx).graph
        assert [t.name for t in contents.inputs] == [v.name for v in graph.input]
        assert [t.name for t in contents.outputs] == [v.name for v in graph.output]
        assert {t.dtype for t in (*contents.inputs, *contents.outputs)} == {"FLOAT"}
        assert contents.layer_types.get("CONVOLUTION/FLOAT", 0) == sum(
            n.op_type == "Conv" for n in graph.node
        )
        assert not any("HALF" in kind or "BF16" in kind for kind in contents.layer_types)


@pytest.mark.slow
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="needs the extra 'gpu'")
@pytest.mark.parametrize(
    ("method", "target"),
    [
        # The others have the same kinds of nodes: the oldest generation, which rewrites most, and the newest.
        *(("umvd", t) for t in (Target(7, 5), Target(8, 0), Target(8, 6), Target(8, 9), Target(12, 0))),
        *(("umvd with a baseline", t) for t in (Target(7, 5), Target(12, 0))),
        *(("sts-uvd in one pass", t) for t in (Target(7, 5), Target(12, 0))),
    ],
    ids=str,
)
def test_engines_in_half_precision_are_built_for_every_generation(
    bundles: dict[str, tuple[Network, Bundle]], tmp_path: Path, method: str, target: Target
) -> None:
    bundle, cache = bundles[method][1], EngineCache(tmp_path / "engines")
    for plan in plan_engines(bundle, [target], [(48, 64)], dynamic=(16, 128)):
        contents = build_engine(plan, cache).manifest.contents
        graph = onnx.load_model_from_string(bundle.graph_bytes(plan.spec.graph)).graph
        assert [t.name for t in contents.inputs] == [v.name for v in graph.input]
        assert {t.dtype for t in (*contents.inputs, *contents.outputs)} == {"FLOAT"}
        if plan.spec.graph == "fuse":
            assert contents.layer_types["CONVOLUTION/HALF"] > 0


@pytest.mark.parametrize("method", some(METHODS))
def test_half_precision_keeps_the_flow_and_the_warp_in_float32(
    bundles: dict[str, tuple[Network, Bundle]], movie: FloatArray, method: str
) -> None:
    bundle = bundles[method][1]
    for name in bundle.manifest.graphs:
        model = onnx.load_model_from_string(half_precision(bundle.graph_bytes(name)))
        sampled = {n for node in model.graph.node if node.op_type == "GridSample" for n in node.input}
        assert not any("half" in n for n in sampled)
        places = {node.input[1] for node in model.graph.node if node.op_type == "GridSample"} | {"flow"}
        for node in reversed(model.graph.node):
            # Back to where a convolution's answer is cast to float32.
            if places.intersection(node.output) and node.op_type != "Cast":
                assert not any(n.endswith("::half") for n in node.input), node.op_type
                places.update(node.input)
    graphs = {name: rounded_like_half(bundle.graph_bytes(name)) for name in bundle.manifest.graphs}
    few = movie[:6]
    lower = streamed(Bundle(bundle.folder, bundle.manifest, graphs), few, "onnxruntime-cpu")
    difference = np.abs(lower - streamed(bundle, few, "onnxruntime-cpu")).max()
    assert 0 < difference < 0.05 * CAMERA.scale
