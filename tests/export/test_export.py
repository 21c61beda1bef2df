"""Exported graphs and the stream that runs them equal the torch network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from denoscope.export import OPSET, export_bundle, export_graphs, load_network
from denoscope.runtime import Bundle, FrameMeta, Stream
from denoscope.train import (
    CameraSettings,
    LiveNet,
    LiveNetSettings,
    SceneSettings,
    denoise_reference,
    simulate,
)

SETTINGS = LiveNetSettings(
    encode_channels=4, encode_width=6, trunk_width=8, deep_width=8, spatial_channels=3, second_width=4
)


@pytest.fixture(scope="module")
def network() -> LiveNet:
    torch.manual_seed(1)
    net = LiveNet(SETTINGS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


@pytest.fixture(scope="module")
def bundle(network: LiveNet, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "tiny.denoscope"
    return export_bundle(network, folder, name="tiny", trained_on=["nothing"])


@pytest.fixture(scope="module")
def graphs(bundle: Bundle) -> dict[str, bytes]:
    return {f"{name}.onnx": bundle.graph_bytes(name) for name in ("encode", "remember", "fuse")}


def test_graphs_are_self_contained_and_recent(graphs: dict[str, bytes]) -> None:
    assert set(graphs) == {"encode.onnx", "remember.onnx", "fuse.onnx"}
    for data in graphs.values():
        model = onnx.load_from_string(data)
        assert {o.domain: o.version for o in model.opset_import}[""] >= OPSET
        assert all(t.data_location != onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
        assert b"/site-packages/" not in data


def test_graphs_hold_no_operator_that_changes_nothing(graphs: dict[str, bytes]) -> None:
    for data in graphs.values():
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data)).graph
        types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input)}
        ones = [t.name for t in graph.initializer if not t.dims and onnx.numpy_helper.to_array(t) == 1]
        assert not [n for n in graph.node if n.op_type == "Cast" and types[n.input[0]] == n.attribute[0].i]
        assert not [n for n in graph.node if n.op_type == "Mul" and set(n.input) & set(ones)]
        used = {name for node in graph.node for name in node.input}
        assert {t.name for t in graph.initializer} <= used


def test_a_network_that_branches_on_values_is_refused(
    network: LiveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded run would keep the branch that the example took, for every movie."""
    encode = LiveNet.encode
    monkeypatch.setattr(LiveNet, "encode", lambda net, z, noise: encode(net, z if z.max() > 0 else -z, noise))
    with pytest.raises(RuntimeError, match=r"without that branch, .*test_export"):
        export_graphs(network)


@pytest.mark.parametrize("size", [(16, 16), (36, 52), (64, 24)])
def test_graphs_equal_torch_at_any_size(
    network: LiveNet, graphs: dict[str, bytes], size: tuple[int, int]
) -> None:
    torch.manual_seed(5)
    h, w = size[0] // 2, size[1] // 2
    noise = torch.tensor([0.2, 0.3])
    frame = torch.randn(1, 1, *size)
    window = [torch.randn(1, SETTINGS.feature_channels, h, w) for _ in range(7)]
    memory = torch.randn(1, SETTINGS.memory_channels, h, w)
    weight = torch.tensor([0.9, 0.5, 0.2, 0.05])
    valid = torch.tensor([0.0, 1, 1, 1, 1, 1, 0])

    def run(name: str, **inputs: torch.Tensor) -> list[torch.Tensor]:
        session = onnxruntime.InferenceSession(graphs[name], providers=["CPUExecutionProvider"])
        return [torch.from_numpy(o) for o in session.run(None, {k: v.numpy() for k, v in inputs.items()})]

    with torch.inference_mode():
        expected = network.encode(frame, noise)
        torch.testing.assert_close(
            run("encode.onnx", frame=frame, noise=noise)[0], expected, atol=1e-4, rtol=1e-4
        )
        found = run("remember.onnx", features=window[0], memory=memory, weight=weight)
        for a, b in zip(found, network.remember(window[0], memory, weight), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        slots = {f"features_{i}": f for i, f in enumerate(window)}
        found = run("fuse.onnx", **slots, valid=valid, memory=memory, weight=weight, noise=noise)
        for a, b in zip(found, network.fuse(window, valid, memory, weight, noise), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
@pytest.mark.parametrize("look_ahead", [0, 2, 3])
def test_stream_equals_the_torch_reference(
    network: LiveNet, bundle: Bundle, backend: str, look_ahead: int
) -> None:
    movie = simulate(SceneSettings(frames=40, height=37, width=51), CameraSettings(photons=4), seed=8).noisy
    outputs = []
    # What the stream does about the light of a frame is not the network's.
    with Stream(bundle, backend=backend, look_ahead=look_ahead, std=True, light=False) as stream:
        for number, frame in enumerate(movie):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
        intensity = stream.intensity
    assert intensity is not None
    assert [o.meta.number for o in outputs] == list(range(40))
    mean, std = denoise_reference(network, movie, intensity, look_ahead=look_ahead)
    np.testing.assert_allclose(np.stack([o.frame for o in outputs]), mean, atol=2e-3 * intensity.scale)
    np.testing.assert_allclose(np.stack([o.std for o in outputs if o.std is not None]), std, rtol=5e-3)


def test_a_bundle_gives_its_network_back(network: LiveNet, bundle: Bundle) -> None:
    again = load_network(Bundle.load(Path(bundle.folder)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)
