"""16-bit floats: only convolutions change, the emulated rounding is the format's, and the loss has a limit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from denoscope.acquisition.sources.movies import demo_movie
from denoscope.export import (
    PrecisionRefused,
    Target,
    build_engine,
    export_precision,
    plan_engines,
)
from denoscope.export import engines as engines_module  # is the builder installed
from denoscope.export import parity as parity  # smaller scenes for its measurement
from denoscope.export.half import (
    BF16,
    FP16,
    Format,
    half_precision,
    rounded_like_half,
)  # the rewriting itself
from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    FrameMeta,
    InvalidInput,
    Stream,
    list_bundles,
    write_bundle,
)
from denoscope.runtime.engines import EngineCache
from support.tiny_bundle import tiny_bundle

QUICK = {("live-fast", "fp16"), ("live-fast", "fp32"), ("live-fast", "bf16")}
SENSITIVE = {"Sqrt", "Exp", "Pow", "Div", "Max", "ReduceSum", "ReduceMean", "Gemm", "Mul", "Sub"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A shipped bundle without its measurements."""
    shipped = Bundle.load("live-fast")
    folder = tmp_path_factory.mktemp("bundles") / "plain.denoscope"
    files = {f"{name}.onnx": shipped.graph_bytes(name) for name in shipped.manifest.graphs}
    files["weights.safetensors"] = (shipped.folder / "weights.safetensors").read_bytes()
    files["README.md"] = b"# plain\n\nA note.\n"
    write_bundle(folder, shipped.manifest.model_copy(update={"name": "plain", "quality": []}), files)
    return Bundle.load(folder)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_SCENE", dataclasses.replace(parity._SCENE, frames=40, height=32, width=40))


def run(model: bytes, **inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, inputs)[0])


def two_convolutions(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "second"], ["y"]),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8, "H", "W"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, "H", "W"))],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("form", "rough"), [(FP16, 2e-3), (BF16, 1.6e-2)])
def test_the_emulated_rounding_is_that_of_the_format(form: Format, rough: float) -> None:
    chance = np.random.default_rng(0)
    first, second = (chance.normal(size=(8, 8, 1, 1)).astype(np.float32) for _ in range(2))
    x = chance.normal(size=(1, 8, 16, 16)).astype(np.float32)

    def half(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return values.astype(form.dtype).astype(np.float64)

    def conv(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.einsum("oi,bihw->bohw", half(weights)[:, :, 0, 0], values).astype(np.float32)

    expected = half(conv(np.maximum(half(conv(half(x), first)), 0), second))
    model = two_convolutions(first, second)
    found = run(rounded_like_half(model, form), x=x)
    # A sum's last float32 bit may turn a tie: the next half, in a few places.
    assert (found == expected).mean() > 0.97
    np.testing.assert_allclose(found, expected, rtol=rough, atol=rough)
    exact = run(model, x=x)
    assert np.abs(found - exact).max() > rough / 2
    if form is FP16:
        np.testing.assert_allclose(run(half_precision(model), x=x), exact, rtol=2e-2, atol=2e-2)


def test_what_a_half_cannot_hold_becomes_nan_not_a_number_that_looks_right() -> None:
    large = np.full((8, 8, 1, 1), 300, np.float32)
    x = np.full((1, 8, 4, 4), 100, np.float32)
    model = two_convolutions(large, large)
    assert np.isfinite(run(model, x=x)).all()
    assert np.isnan(run(rounded_like_half(model), x=x)).all()


@pytest.mark.parametrize("form", [FP16, BF16])
def test_only_convolutions_and_what_lies_between_them_change(plain: Bundle, form: Format) -> None:
    for name in plain.manifest.graphs:
        before = onnx.load_model_from_string(plain.graph_bytes(name))
        after = onnx.shape_inference.infer_shapes(
            onnx.load_model_from_string(half_precision(plain.graph_bytes(name), form)), strict_mode=True
        )
        for old, new in ((before.graph.input, after.graph.input), (before.graph.output, after.graph.output)):
            assert [(v.name, v.type) for v in old] == [(v.name, v.type) for v in new]
        types = {v.name: v.type.tensor_type.elem_type for v in [*after.graph.value_info, *after.graph.input]}
        types |= {t.name: t.data_type for t in after.graph.initializer}
        convolutions = [n for n in after.graph.node if n.op_type == "Conv"]
        assert len(convolutions) == sum(n.op_type == "Conv" for n in before.graph.node)
        for node in convolutions:
            assert {types[i] for i in node.input} == {form.element}, node.name
        for node in after.graph.node:
            if node.op_type in SENSITIVE:
                assert form.element not in {types.get(i) for i in node.input}, node.name
        for op in SENSITIVE:
            assert sum(n.op_type == op for n in after.graph.node) == sum(
                n.op_type == op for n in before.graph.node
            )
        if not convolutions:
            assert b"::half" not in after.SerializeToString()


def test_a_bundle_in_half_precision_says_what_it_lost(plain: Bundle, tmp_path: Path, short: None) -> None:
    seen: list[parity.ParityRow] = []
    written, rows = export_precision(plain, tmp_path / "small.denoscope", on_movie=seen.append, force=True)
    assert seen == rows
    assert len(rows) == 3
    assert written.manifest.name == "small"
    assert [record.value for record in written.manifest.quality] == [row.lower_db for row in rows]
    assert all(0 < row.rms_error <= row.max_error < 0.1 for row in rows)
    assert all(abs(row.lost_db) < 0.05 for row in rows)
    card = (written.folder / "README.md").read_text(encoding="utf-8")
    assert "A note." in card
    assert all(row.movie in card for row in rows)
    assert written.graph_bytes("encode") != plain.graph_bytes("encode")
    with pytest.raises(InvalidInput, match="start from the bundle that was trained"):
        export_precision(written, tmp_path / "again.denoscope")


def test_a_loss_above_the_limit_is_refused_with_the_number(
    plain: Bundle, tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.LOSS_LIMIT_DB, "fp16", -1.0)
    monkeypatch.setattr(parity, "_PHOTONS", (1.5,))
    folder = tmp_path / "refused.denoscope"
    with pytest.raises(PrecisionRefused, match=r"loses -?\d\.\d{3} dB in fp16, and -1 dB is the limit"):
        export_precision(plain, folder)
    assert not folder.exists()


def test_a_loss_that_is_no_number_is_refused(
    plain: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst = parity.ParityRow("a movie", 30.0, float("nan"), float("nan"), float("nan"))
    good = parity.ParityRow("another", 30.0, 30.0, 0.0, 0.0)
    answers = iter([good, worst, good])
    monkeypatch.setattr(parity, "_compare", lambda *_: next(answers))
    with pytest.raises(PrecisionRefused, match="loses nan dB"):
        export_precision(plain, tmp_path / "refused.denoscope")


def test_what_has_no_convolution_and_what_is_unknown(tmp_path: Path) -> None:
    tiny = tiny_bundle(tmp_path / "tiny.denoscope")
    with pytest.raises(InvalidInput, match="no float32 convolution"):
        export_precision(tiny, tmp_path / "half.denoscope")
    with pytest.raises(InvalidInput, match="`precision` int4 is unknown: choose fp32, fp16, bf16 or int8"):
        export_precision(tiny, tmp_path / "half.denoscope", "int4")


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        # Every precision once by default.
        pytest.param(name, precision, marks=() if (name, precision) in QUICK else pytest.mark.slow)
        for name in list_bundles()
        for precision in ("fp32", "fp16", "bf16")
    ],
)
def test_the_shipped_bundles_lose_little(
    name: str, precision: str, tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rounding shows most where there is little noise; the dark and the usual scene are measured for one bundle.
    photons = (0.3, 1.5, 30.0) if name == "live-hq" else (30.0,)
    monkeypatch.setattr(parity, "_PHOTONS", photons)
    _, rows = export_precision(
        Bundle.load(name),
        tmp_path / "other.denoscope",
        precision,
        movie=demo_movie().frames[:40, 80:112, 80:112],
        movie_name="demo",
    )
    assert [row.movie.split(",")[0] for row in rows] == ["demo", *["simulated"] * len(photons)]
    assert max(row.lost_db for row in rows) < (0.001 if precision == "fp32" else 0.05)
    exact = max(row.max_error for row in rows) < 1e-4
    assert exact == (precision == "fp32")


def test_openvino_runs_bfloat16_graphs_and_onnx_runtime_says_that_it_cannot(tmp_path: Path) -> None:
    live = Bundle.load("live")
    graphs = {name: half_precision(live.graph_bytes(name), BF16) for name in live.manifest.graphs}
    bfloat = Bundle(live.folder, live.manifest, graphs)
    with pytest.raises(BackendUnavailable, match=r"onnxruntime-cpu .* refuses the graph .*choose another"):
        denoised(bfloat, "onnxruntime-cpu")
    exact, found = denoised(live, "openvino"), denoised(bfloat, "openvino")
    noise = float(np.std(exact - demo_movie().frames[:40, 80:112, 80:112]))
    assert 0 < np.sqrt(np.mean((found - exact) ** 2)) < 0.02 * noise


def denoised(bundle: Bundle, backend: str) -> npt.NDArray[np.float32]:
    outputs = []
    with Stream(bundle, backend, align=False) as stream:
        for number, frame in enumerate(demo_movie().frames[:40, 80:112, 80:112].astype(np.float32)):
            outputs += stream.push(frame, FrameMeta(number=number, t_received_s=0.0))
        outputs += stream.flush()
    return np.stack([output.frame for output in outputs])


@pytest.mark.skipif(not engines_module.installed("tensorrt_rtx"), reason="needs the extra 'gpu'")
@pytest.mark.parametrize(
    ("form", "kind", "every"),
    [
        (BF16, "BF16", False),
        # By default `test_tensorrt` builds engines of this bundle in fp16.
        *(pytest.param(*form, True, marks=pytest.mark.slow) for form in ((FP16, "HALF"), (BF16, "BF16"))),
    ],
)
def test_engines_in_half_precision_have_no_float32_convolution(
    plain: Bundle, tmp_path: Path, form: Format, kind: str, every: bool
) -> None:
    files = {name: half_precision(plain.graph_bytes(name), form) for name in plain.manifest.graphs}
    half = Bundle(plain.folder, plain.manifest, files)
    cache = EngineCache(tmp_path / "engines")
    targets = [Target(8, 6), Target(8, 9), Target(12, 0)] if every else [Target(8, 6)]
    if every and form is FP16:
        targets += [Target(7, 5), Target(8, 0)]  # 7.5 has no bfloat16
    built = set()
    for plan in plan_engines(half, targets, [(64, 64)]):
        nodes = onnx.load_model_from_string(plan.onnx).graph.node
        if not every and (plan.spec.graph in built or not any(node.op_type == "Conv" for node in nodes)):
            continue
        built.add(plan.spec.graph)
        engine = build_engine(plan, cache)
        kinds = engine.manifest.contents.layer_types
        assert kinds.get(f"CONVOLUTION/{kind}", 0) == sum(node.op_type == "Conv" for node in nodes)
        assert "CONVOLUTION/FLOAT" not in kinds
        io = (*engine.manifest.contents.inputs, *engine.manifest.contents.outputs)
        assert {tensor.dtype for tensor in io} == {"FLOAT"}
