"""Engines are really built, with the real builder and no GPU, for every RTX generation."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import denoscope.export as export
from denoscope.export import (
    BuilderUnavailable,
    EngineBuildFailed,
    Target,
    build_engine,
    parse_targets,
    plan_engines,
)
from denoscope.export import engines as engines_module  # builders that are replaced
from denoscope.export.build_process import build_in_process_of_its_own  # one graph, no bundle
from denoscope.export.builder import BuildRequest, Phases  # the builder itself
from denoscope.export.lowering import gemm_as_products  # the rewriting itself
from denoscope.runtime import Bundle, InvalidInput, list_bundles
from denoscope.runtime.backends.raw_count_graphs import without_output
from denoscope.runtime.engines import EngineCache, EngineContents, LocalGpu
from denoscope.runtime.motion.field import KNOTS, interpolation, places
from support.damage import mutated
from support.shell import run_here
from support.tiny_bundle import tiny_bundle

ROOT = Path(__file__).parents[2]
GENERATIONS = [Target(7, 5), Target(8, 0), Target(8, 6), Target(8, 9), Target(12, 0)]
# Engines of shipped bundles are slow to build: those of small networks are built for the newest generation below, and
# those of the network with every kind of graph in `test_methods`.
# Graphs of `live` and `live-fast` have the same nodes, and so have those of `live-hq` and `recorded` but for `fuse`.
# So they take turns, and every generation builds every kind; the oldest rewrites most and has all bundles.
TURNS = {
    "sm75": ("live", "live-fast", "live-hq", "recorded"),
    "sm80": ("live", "recorded"),
    "sm86": ("live-fast", "live-hq"),
    "sm89": ("live", "recorded"),
    "sm120": ("live-fast", "live-hq", "recorded"),
}
# A generation builds once what is the same nodes in two bundles.
BUILT_BY_ANOTHER = {("sm75", "live-fast"), ("sm75", "live-hq"), ("sm120", "live-hq")}
SQUARE = ((64, 64), (64, 64), (64, 64))

needs_builder = pytest.mark.skipif(
    not engines_module.installed("tensorrt_rtx"), reason="needs the extra 'gpu'"
)


def environment() -> dict[str, str]:
    parts = [str(ROOT / part) for part in ("train", "export", "runtime", "acquisition", "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*parts, os.environ.get("PYTHONPATH", "")])}


def request_for(**changes: Any) -> BuildRequest:
    version = engines_module.installed_versions().get("tensorrt_rtx", "")
    defaults: dict[str, Any] = {
        "flavour": "tensorrt_rtx",
        "version": version,
        "graph": "encode",
        "target": (8, 6),
        "scale": 2,
        "profiles": (SQUARE,),
    }
    return BuildRequest(**{**defaults, **changes})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.denoscope")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_progress_of_nested_phases_never_falls() -> None:
    phases = Phases()
    assert phases.step("unknown", 0) == 0
    phases.start("all", None, 2)
    phases.start("part", "all", 4)
    shares = [phases.step("part", 0), phases.step("part", 3)]
    phases.finish("part")
    shares.append(phases.step("all", 0))
    phases.start("rest", "all", 0)
    shares += [phases.step("rest", 0), phases.step("all", 1), phases.step("all", 7)]
    assert shares == [0.125, 0.5, 0.5, 1.0, 1.0, 1.0]


# Which TensorRT.


@needs_builder
def test_what_cannot_be_built_here_says_how_it_can(tiny: Bundle) -> None:
    with pytest.raises(
        BuilderUnavailable, match=r"9\.0: tensorrt_rtx .* builds for 7\.5, .*`flavour` tensorrt"
    ):
        plan_engines(tiny, parse_targets("h100"), [(512, 512)])
    with pytest.raises(BuilderUnavailable, match=r"6\.1"):
        plan_engines(tiny, parse_targets("rtx3060,gtx1080"), [(512, 512)])
    with pytest.raises(InvalidInput, match="choose auto, tensorrt_rtx or tensorrt"):
        plan_engines(tiny, GENERATIONS, [(512, 512)], flavour="tensorflow")


def test_without_a_builder_the_remedy_is_named(tiny: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_module, "installed", lambda flavour: False)
    with pytest.raises(BuilderUnavailable, match=r"tensorrt_rtx is not installed.*\[gpu\]"):
        plan_engines(tiny, GENERATIONS, [(512, 512)])


@pytest.mark.parametrize(
    ("gpu", "result"),
    [
        (LocalGpu("NVIDIA H200", (9, 0), (13, 0)), "sm90 NVIDIA H200"),
        (LocalGpu("NVIDIA L4", (8, 9), (13, 0)), "for the GPU of this machine, NVIDIA L4 of 8.9"),
        ("no NVIDIA driver is installed", "no NVIDIA driver is installed"),
    ],
)
def test_tensorrt_builds_for_the_gpu_that_is_here(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, gpu: LocalGpu | str, result: str
) -> None:
    monkeypatch.setattr(engines_module, "installed", lambda flavour: flavour == "tensorrt")
    monkeypatch.setattr(engines_module, "version", lambda flavour: "11.4.0")
    monkeypatch.setattr(engines_module, "local_gpu", lambda: gpu)
    if result.startswith("sm90"):
        plan = plan_engines(tiny, [Target(9, 0)], [(512, 512)])[0]
        assert (plan.spec.flavour, plan.spec.target) == ("tensorrt", result)
        assert "since tensorrt_rtx is not installed" in plan.why
    else:
        with pytest.raises(BuilderUnavailable, match=result):
            plan_engines(tiny, [Target(9, 0)], [(512, 512)])


# Real builds.


def check_contents(bundle: Bundle, engine: Any) -> None:
    whole = bundle.graph_bytes(engine.manifest.spec.graph)
    data = next(
        d
        for d in (whole, without_output(whole, "std"))
        if hashlib.sha256(d).hexdigest() == engine.manifest.spec.onnx_sha256
    )
    graph = onnx.load_model_from_string(data).graph
    contents = engine.manifest.contents
    for found, wanted in ((contents.inputs, graph.input), (contents.outputs, graph.output)):
        assert [t.name for t in found] == [v.name for v in wanted]
        for tensor, value in zip(found, wanted, strict=True):
            assert tensor.dtype == "FLOAT"
            dims = value.type.tensor_type.shape.dim
            assert tensor.shape == tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)
    assert contents.layers == sum(contents.layer_types.values()) >= len(graph.node) // 2
    assert engine.manifest.size == len(engine.data) > 10_000
    half = engine.manifest.spec.options["precision"] == "fp16"
    assert half or not any("HALF" in kind or "BF16" in kind for kind in contents.layer_types)
    convolutions = sum(node.op_type == "Conv" for node in graph.node)
    kinds = [contents.layer_types.get(f"CONVOLUTION/{kind}", 0) for kind in ("HALF", "FLOAT")]
    assert kinds == ([convolutions, 0] if half else [0, convolutions])


@needs_builder
@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(GENERATIONS[-1:], id="newest"),  # the oldest builds a shipped bundle, see below
        pytest.param(GENERATIONS[:-1], id="older", marks=pytest.mark.slow),
    ],
)
def test_engines_of_every_graph_for_every_generation(
    tiny: Bundle, cache: EngineCache, targets: list[Target]
) -> None:
    plans = plan_engines(tiny, targets, [(48, 64), (96, 96)], dynamic=(16, 128))
    assert len(plans) == 4 * len(targets), "fuse comes with and without the deviation"
    shares: list[float] = []
    engines = [build_engine(p, cache, on_progress=lambda done, phase: shares.append(done)) for p in plans]
    assert all(engine.built for engine in engines)
    for engine in engines:
        check_contents(tiny, engine)
    assert len({hashlib.sha256(engine.data).digest() for engine in engines}) == len(engines)
    assert len(shares) > 3 * len(engines)
    assert 0 <= min(shares) < max(shares) <= 1
    assert not any(build_engine(plan, cache).built for plan in plans)


@pytest.mark.slow
@needs_builder
@pytest.mark.parametrize(
    ("name", "target"),
    [
        pytest.param(
            name,
            target,
            id=f"{target.name}-{name}",
        )
        for target in GENERATIONS
        for name in TURNS[target.name]
    ],
)
def test_engines_of_the_shipped_bundles(name: str, target: Target, cache: EngineCache) -> None:
    bundle = Bundle.load(name)
    plans = plan_engines(bundle, [target], [(512, 512)], dynamic=(64, 2048))
    assert {p.spec.graph for p in plans if p.spec.options["precision"] == "fp16"} >= {"encode", "fuse"}
    seen: set[str] = set()
    for plan in plans:
        graph = plan.spec.graph
        # `fuse` without the deviation: newer generations build that of small networks above.
        again = graph in seen
        seen.add(graph)
        if (target.name, name) in BUILT_BY_ANOTHER and (again or graph not in {"encode", "fuse"}):
            continue
        if again and target != GENERATIONS[0]:
            continue
        engine = build_engine(plan, cache)
        if plan.spec.graph != "fuse" or target != GENERATIONS[0]:
            check_contents(bundle, engine)
        assert len(engine.data) > len(plan.onnx), "the weights are inside"


@pytest.mark.slow
def test_every_shipped_bundle_has_its_turn_on_the_oldest_and_a_newer_generation() -> None:
    assert TURNS.keys() == {target.name for target in GENERATIONS}
    assert set(TURNS["sm75"]) == set(list_bundles())
    assert {name for names in list(TURNS.values())[1:] for name in names} == set(list_bundles())
    # What lets them take turns: another network in one of them would have to be built everywhere. Exporters of
    # different age compute the same shapes with different nodes.
    shapes = {"Shape", "Concat", "Reshape", "Div", "Mul", "Unsqueeze", "Squeeze", "Cast"}
    nodes = {
        (name, graph): [
            node.op_type
            for node in onnx.load_model_from_string(data).graph.node
            if node.op_type not in shapes
        ]
        for name in list_bundles()
        for bundle in [Bundle.load(name)]
        for graph in bundle.manifest.graphs
        for data in [bundle.graph_bytes(graph)]
    }
    for generation, name in BUILT_BY_ANOTHER:
        assert {"live-fast": "live", "live-hq": "recorded"}[name] in TURNS[generation]
    for graph in ("encode", "align", "recall", "remember", "fuse"):
        assert nodes["live", graph] == nodes["live-fast", graph]
    for graph in ("encode", "align", "recall", "motion"):
        assert nodes["live-hq", graph] == nodes["recorded", graph]


@needs_builder
def test_float32_is_built_where_it_is_asked_for(cache: EngineCache) -> None:
    bundle = Bundle.load("live-fast")
    plan = plan_engines(bundle, [Target(8, 9)], [(64, 64)], precision="fp32")[0]
    assert plan.spec.options["precision"] == "fp32"
    assert plan.onnx == bundle.graph_bytes("encode")
    check_contents(bundle, build_engine(plan, cache))
    half = plan_engines(bundle, [Target(8, 9)], [(64, 64)])[0]
    assert half.spec.onnx_sha256 == plan.spec.onnx_sha256, "found by the bundle's own graph"
    assert half.spec.key != plan.spec.key
    with pytest.raises(InvalidInput, match="choose fp16 or fp32"):
        plan_engines(bundle, [Target(8, 9)], [(64, 64)], precision="int8")


@needs_builder
def test_tf32_is_chosen_not_assumed(tiny: Bundle, cache: EngineCache) -> None:
    exact, rounded = (plan_engines(tiny, [Target(8, 9)], [(64, 64)], tf32=on)[0] for on in (False, True))
    assert exact.spec.key != rounded.spec.key
    assert build_engine(exact, cache).data != build_engine(rounded, cache).data


@needs_builder
def test_half_precision_graphs_build_without_a_float32_convolution(cache: EngineCache) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frame"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Conv", ["half", "kernel"], ["sharp"], pads=[1, 1, 1, 1]),
            helper.make_node("Cast", ["sharp"], ["features"], to=TensorProto.FLOAT),
        ],
        "encode",
        [helper.make_tensor_value_info("frame", TensorProto.FLOAT, (1, 1, "H", "W"))],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, (1, 8, "H", "W"))],
        [numpy_helper.from_array(np.ones((8, 1, 3, 3), np.float16), "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    _, contents = build_in_process_of_its_own(model.SerializeToString(), request_for())
    assert contents.layer_types["CONVOLUTION/HALF"] == 1
    assert "CONVOLUTION/FLOAT" not in contents.layer_types
    assert [t.dtype for t in contents.inputs + contents.outputs] == ["FLOAT", "FLOAT"]


# Graphs that the builder must refuse.


CORPUS = """
import json, sys
from support.damage import mutated
from denoscope.export import EngineBuildFailed
from denoscope.export.builder import BuildRequest, build, load  # the builder itself
fields = json.loads(sys.stdin.readline())
data = bytes.fromhex(sys.stdin.readline())
trt = load("tensorrt_rtx")
request = BuildRequest(**fields)
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    print(seed, "begun", flush=True)
    try:
        build(trt, mutated(data, seed), request, lambda done, phase: True)
    except EngineBuildFailed as error:
        assert str(error).endswith(".") and "\\n" not in str(error)
        print(seed, "refused", flush=True)
    else:
        print(seed, "built", flush=True)
"""


@needs_builder
def test_two_hundred_damaged_graphs_end_in_a_sentence(tiny: Bundle) -> None:
    """One process takes them all; those that end it are tried again as the product would build them."""
    import dataclasses

    data = tiny.graph_bytes("encode")
    request = request_for()
    outcomes: dict[int, str] = {}
    ended: list[int] = []
    start, total = 0, 200
    while start < total:
        child = subprocess.run(
            [sys.executable, "-c", CORPUS, str(start), str(total)],
            input=json.dumps(dataclasses.asdict(request)) + "\n" + data.hex() + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(),
            check=False,
        )
        lines = [line.split() for line in child.stdout.splitlines() if line[:1].isdigit()]
        outcomes |= {int(seed): what for seed, what in lines}
        assert lines, child.stderr
        start = int(lines[-1][0]) + 1
        if child.returncode:
            assert lines[-1][1] == "begun", child.stderr
            assert "Error" not in child.stderr.splitlines()[-1:], child.stderr
            ended.append(start - 1)
    assert len(outcomes) == total
    assert sum(what == "refused" for what in outcomes.values()) > total // 2
    for seed in [*ended, 0, 1, 3]:
        try:
            build_in_process_of_its_own(mutated(data, seed), request)
        except EngineBuildFailed as error:
            assert outcomes[seed] in ("begun", "refused")
            assert "encode.onnx" in str(error)  # noqa: PT017
        else:
            assert outcomes[seed] == "built"


@needs_builder
def test_a_builder_that_crashes_is_an_error_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text(
        "import os, sys\n__version__ = '11.4'\n"
        "print('printed by the library', flush=True)\n"
        "def Builder(log):\n    sys.stderr.write('core dumped\\n')\n    sys.stderr.flush()\n    os._exit(139)\n"
        "class ILogger:\n    def __init__(self): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    request = request_for(flavour="tensorrt", version="11.4")
    with pytest.raises(EngineBuildFailed, match=r"ended with the code 139 .*encode\.onnx \(core dumped\)"):
        build_in_process_of_its_own(b"\0" * 2_000_000, request)
    with pytest.raises(EngineBuildFailed, match=r"11\.4 in the process that builds and 11\.3"):
        build_in_process_of_its_own(b"", request_for(flavour="tensorrt", version="11.3"))


@needs_builder
def test_a_target_or_a_shape_that_is_not_possible(tiny: Bundle) -> None:
    data = tiny.graph_bytes("encode")
    with pytest.raises(EngineBuildFailed, match=r"builds for 7\.5, .* not for 9\.0"):
        build_in_process_of_its_own(data, request_for(target=(9, 0)))
    model = onnx.load_model_from_string(data)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(EngineBuildFailed, match=r"only height and width may be free"):
        build_in_process_of_its_own(model.SerializeToString(), request_for())


@needs_builder
def test_a_damaged_graph_builds_nothing_into_the_cache(tiny: Bundle, cache: EngineCache) -> None:
    import dataclasses

    plan = plan_engines(tiny, [Target(8, 6)], [(64, 64)])[0]
    with pytest.raises(EngineBuildFailed, match=r"cannot read encode\.onnx"):
        build_engine(dataclasses.replace(plan, onnx=plan.onnx[:100]), cache)
    assert list(cache.verify()) == []
    assert build_engine(plan, cache).built


# The rewritten matrix product for compute capability 7.5.


def run(model: bytes, inputs: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, inputs)]


@pytest.mark.parametrize(
    ("kind", "settings", "added", "batch"),
    [
        ("Gemm", {"transB": transposed, "alpha": 0.5, "beta": 2.0}, added, ())
        for transposed in (0, 1)
        for added in (False, True)
    ]
    + [("MatMul", {}, False, ()), ("MatMul", {}, False, (2,))],
)
def test_a_matrix_product_as_multiplications_and_a_sum(
    kind: str, settings: dict[str, Any], added: bool, batch: tuple[int, ...]
) -> None:
    chance = np.random.default_rng(0)
    matrix = chance.normal(size=(5, 7) if settings.get("transB") else (7, 5)).astype(np.float32)
    constants = [numpy_helper.from_array(matrix, "matrix")]
    if added:
        constants.append(numpy_helper.from_array(chance.normal(size=5).astype(np.float32), "offset"))
    names = ["left", "matrix", *(["offset"] if added else [])]
    node = helper.make_node(kind, names, ["out"], **settings)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, (*batch, 3, 7))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (*batch, 3, 5))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    rewritten = gemm_as_products(model.SerializeToString())
    onnx.checker.check_model(onnx.load_model_from_string(rewritten), full_check=True)
    assert kind not in {n.op_type for n in onnx.load_model_from_string(rewritten).graph.node}
    left = {"left": chance.normal(size=(*batch, 3, 7)).astype(np.float32)}
    np.testing.assert_allclose(
        run(rewritten, left)[0], run(model.SerializeToString(), left)[0], rtol=1e-5, atol=1e-6
    )


def test_knots_spread_by_multiplications_and_sums() -> None:
    align = Bundle.load("live").graph_bytes("align")
    rewritten = gemm_as_products(align)
    assert not {"MatMul", "Gemm"} & {n.op_type for n in onnx.load_model_from_string(rewritten).graph.node}
    chance = np.random.default_rng(2)
    shape = (32, 48)
    inputs = {
        "features": chance.normal(size=(1, 20, 16, 24)).astype(np.float32),
        "places": places(chance.normal(0, 0.5, (2, KNOTS, KNOTS)), shape, shape),
        "rows": interpolation((np.arange(32) + 0.5) / 32)[None, None],
        "columns": interpolation((np.arange(48) + 0.5) / 48).T[None, None],
    }
    np.testing.assert_allclose(run(rewritten, inputs)[0], run(align, inputs)[0], rtol=1e-4, atol=1e-4)


@needs_builder
def test_engines_for_a_frame_size_serve_its_scene_too(tiny: Bundle) -> None:
    def sizes(bundle: Bundle) -> dict[str, list[str]]:
        plans = plan_engines(bundle, [Target(8, 6)], [(256, 320)])
        return {plan.spec.graph: [str(size) for size in plan.spec.profiles] for plan in plans}

    frame, more = ["256x320"], ["256x320..288x352"]
    live = {"encode": frame, "align": more, "recall": more, "remember": more, "fuse": frame}
    assert sizes(Bundle.load("live")) == live
    assert set(map(tuple, sizes(tiny).values())) == {("256x320", "288x352")}, "the canvas"


@pytest.mark.parametrize("name", list_bundles())
def test_the_rewritten_fuse_gives_the_same_frames(name: str) -> None:
    bundle = Bundle.load(name)
    before = bundle.graph_bytes("fuse")
    m, chance = bundle.manifest, np.random.default_rng(1)
    noise = np.array([0.1, 0.1], np.float32)
    shapes = {"memory": (1, m.memory_channels, 16, 24)}
    if m.flow_scale > 0:
        shapes |= {f"flow_{i}": (1, 2, 8, 12) for i in range(m.window - 1)}
    inputs = {key: chance.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    for i in range(m.window):
        # Features as the bundle makes them: from random ones the outputs are tens, and round as such.
        frame = chance.normal(size=(1, 1, 32, 48)).astype(np.float32)
        inputs[f"features_{i}"] = run(bundle.graph_bytes("encode"), {"frame": frame, "noise": noise})[0]
    inputs["valid"] = np.ones(m.window, np.float32)
    inputs["valid"][0] = 0
    inputs["weight"] = np.linspace(0, 1, m.memories, dtype=np.float32)
    inputs["noise"] = noise
    for new, old in zip(run(gemm_as_products(before), inputs), run(before, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=2e-5, atol=2e-5)


# From the shell, in real processes where two work at once or one is interrupted.


def denoscope(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "denoscope.acquisition.cli.app", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def finished(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=280)
    return child.returncode, out, err


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@needs_builder
def test_build_list_verify_and_prune_from_the_shell(tiny: Bundle, cache: EngineCache) -> None:
    words = ("build", tiny.folder, "--for", "rtx3060", "--size", "64x64", "--cache", cache.folder, "--json")
    at_once = [finished(child) for child in [denoscope(*words), denoscope(*words)]]
    assert [code for code, _, _ in at_once] == [0, 0], at_once
    answers = [json.loads(out.splitlines()[-1])["engines"] for _, out, _ in at_once]
    assert [[e["spec"]["graph"] for e in answer] for answer in answers] == [
        ["encode", "remember", "fuse", "fuse"]
    ] * 2
    assert sorted(e["built"] for answer in answers for e in answer) == [False] * 4 + [True] * 4
    assert all("tensorrt_rtx" in err and "builds for 8.6" in err for _, _, err in at_once)

    code, out, _ = told(run_here("engines", "list", "--cache", cache.folder))
    assert (code, out.count(": good")) == (0, 4)
    victim = Path(answers[0][1]["path"])
    victim.write_bytes(victim.read_bytes()[:-1])
    code, out, _ = told(run_here("engines", "verify", "--cache", cache.folder))
    assert (code, out.count(": good")) == (1, 3)
    assert "3 good, 1 unusable" in out
    code, out, _ = told(run_here(*words, "--quiet"))
    assert [e["built"] for e in json.loads(out)["engines"]] == [False, True, False, False]
    code, out, _ = told(run_here("engines", "prune", "--all", "--cache", cache.folder, "--json"))
    assert (code, len(json.loads(out.splitlines()[-1])["deleted"])) == (0, 4)
    code, _, err = told(run_here("engines", "list", "--all", "--cache", cache.folder))
    assert (code, "goes with prune" in err) == (2, True)
    code, _, err = told(run_here("build", tiny.folder, "--for", "h100", "--size", "64x64"))
    assert (code, len(err.strip().splitlines())) == (2, 1)


def test_export_from_the_shell(tiny: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "half.denoscope"
    for words, message in (
        ((tiny.folder,), "no float32 convolution"),
        ((tiny.folder, "--precision", "int4"), "choose fp32, fp16"),
        (("nowhere.denoscope",), "There is no bundle"),
    ):
        code, _, err = told(run_here("export", *words, "--output", output))
        assert (code, message in err, len(err.strip().splitlines())) == (2, True, 1), err
        assert not output.exists()
    code, _, err = told(run_here("export", tiny.folder, "--output", tiny.folder))
    assert (code, "exists: name another folder" in err) == (2, True)


@needs_builder
@pytest.mark.skipif(sys.platform == "win32", reason="a Ctrl-C cannot be sent to one process there")
def test_ctrl_c_ends_the_build_and_keeps_what_is_complete(tiny: Bundle, cache: EngineCache) -> None:
    sizes = [word for n in range(64, 193, 16) for word in ("--size", f"{n}x{n}")]
    for _ in range(3):  # a busy computer may let the build end before it delivers the signal
        child = denoscope(
            *("build", tiny.folder, "--for", "sm75,sm80,sm86,sm89,sm120", *sizes),
            *("--cache", cache.folder, "--json"),
        )
        # With the second there, the first is sure to have been listed.
        while len(list(cache.folder.glob("*.json"))) < 2 and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        code, out, err = finished(child)
        if code != 0:
            break
        shutil.rmtree(cache.folder)
    assert code == 130, err
    done = json.loads(out.splitlines()[-1])["engines"]
    assert 1 <= len(done) < 135
    assert "denoscope: interrupted; " in err
    assert "Traceback" not in err
    kept = list(cache.verify())
    assert [state.problem for state in kept] == [None] * len(kept)
    assert len(kept) - len(done) in (0, 1)  # the last one may be there before it is listed


@needs_builder
def test_ctrl_c_while_an_engine_is_written_leaves_nothing_of_it(
    tiny: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed, fsync = 0, os.fsync

    def confirm(number: int) -> None:
        nonlocal confirmed
        confirmed += 1
        if confirmed == 3:  # two files an engine
            raise KeyboardInterrupt
        fsync(number)

    monkeypatch.setattr(
        engines_module, "build_in_process_of_its_own", lambda *_: (b"engine", EngineContents())
    )
    monkeypatch.setattr(os, "fsync", confirm)
    words = ("build", tiny.folder, "--for", "rtx3060", "--size", "64x64", "--cache", cache.folder)
    code, _, err = told(run_here(*words, "--quiet"))
    assert (code, err) == (
        130,
        f"denoscope: interrupted; {cache.folder} holds 1 of 4 engines; the same command builds the others\n",
    )
    assert [path.suffix for path in sorted(cache.folder.glob("*.*"))] == [".engine", ".json"]
    monkeypatch.setattr(os, "fsync", fsync)
    code, out, _ = told(run_here(*words))
    assert (code, "3 built, 1 were already there" in out) == (0, True)


def test_building_engines_needs_no_torch() -> None:
    script = (
        "import sys, denoscope.export as e\n"
        "assert 'onnx' not in sys.modules and 'tensorrt_rtx' not in sys.modules\n"
        "for name in ('plan_engines', 'build_engine', 'parse_targets', 'EngineBuildFailed'): getattr(e, name)\n"
        "import denoscope.export.build_process, denoscope.export.lowering\n"
        "print(sorted({'torch', 'onnxruntime'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_of_the_part_exist() -> None:
    assert all(hasattr(export, name) for name in export.__all__)
