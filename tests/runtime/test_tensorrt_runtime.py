"""TensorRT's backend: the engines it takes from the cache and refuses, what it says, and what it schedules."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import denoscope.runtime.backends.registry as table
from denoscope.runtime import (
    BackendUnavailable,
    Bundle,
    DeviceFailed,
    FrameMeta,
    Intensity,
    Stream,
    choose_backend,
)
from denoscope.runtime.backends import tensorrt as tensorrt_module
from denoscope.runtime.backends.raw_count_graphs import without_output
from denoscope.runtime.backends.tensorrt import EngineTarget, TensorRtRtx, engines_for
from denoscope.runtime.engines import EngineCache, LocalGpu, SizeRange
from denoscope.runtime.testing import BackendContract
from support.gpu_on_host import VERSION, SelfBuildingOnHost, TensorRtOnHost, put_bundle, put_engine
from support.tiny_bundle import assert_answer, expected_movie, stamped, tiny_bundle

CAMERA = Intensity(offset=100.0, scale=7.5, noise_slope=0.3, noise_floor=0.2)


def fixed(height: int, width: int) -> SizeRange:
    return SizeRange(minimum=(height, width), typical=(height, width), maximum=(height, width))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "moving.denoscope", window=5, motion=True)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


class TestOnHost(BackendContract):
    """The contract, with engines of its graphs put into a cache first."""

    backend_class = SelfBuildingOnHost

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SelfBuildingOnHost, "folder", tmp_path / "engines", raising=False)


def play(stream: Stream, count: int = 16, shape: tuple[int, int] = (24, 32)) -> None:
    frames = {n: stamped(n, shape) for n in range(count)}
    window = stream.bundle.manifest.window
    expected = expected_movie(
        frames, window=window, look_ahead=stream.look_ahead, motion=True, intensity=CAMERA
    )
    found = []
    for number, frame in frames.items():
        found += stream.push(frame, FrameMeta(number=number, t_received_s=time.perf_counter()))
    for output in [*found, *stream.flush()]:
        assert_answer(output.frame, expected.pop(output.meta.number))
    assert not expected


@pytest.mark.parametrize("seed", range(4))
def test_any_order_gives_the_known_answer(bundle: Bundle, cache: EngineCache, seed: int) -> None:
    put_bundle(cache, bundle)
    with (
        TensorRtOnHost(cache, seed=seed) as backend,
        Stream(bundle, backend, intensity=CAMERA, light=False) as stream,
    ):
        play(stream)
        play(stream, 7, (16, 40))
        counts = backend.device.counts
        assert counts["replay"] > 7 * 4, "frames are replayed from captured graphs"
        assert backend.describe()["CUDA graphs"] == "captured"
        assert backend.loads == 4, "each graph's engine is loaded once, for both sizes"


def test_every_run_after_the_warm_up_is_a_replay(bundle: Bundle, cache: EngineCache) -> None:
    put_bundle(cache, bundle)
    with TensorRtOnHost(cache) as backend, Stream(bundle, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((24, 32))
        backend.device.close()  # what is still to be done
        before = backend.device.counts.copy()
        play(stream)
        backend.device.close()
        spent = backend.device.counts - before
    assert spent["capture"] == 0
    assert spent["replay"] == spent["submit"]


def test_what_cannot_be_captured_runs_as_it_is_and_says_so(bundle: Bundle, cache: EngineCache) -> None:
    put_bundle(cache, bundle)
    with TensorRtOnHost(cache) as backend, Stream(bundle, backend, intensity=CAMERA, light=False) as stream:
        backend.device.captures_fail = RuntimeError("operation not permitted when stream is capturing")
        play(stream)
        assert backend.device.counts["replay"] == 0
        assert "not captured: operation not permitted" in backend.describe()["CUDA graphs"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (None, r"no engine has been built.*denoscope build BUNDLE --for sm86 --flavour tensorrt_rtx"),
        ({"target": "sm89"}, r"engines have been built for sm89, and this is sm86 Lazy GPU"),
        (
            {"target": "sm86 NVIDIA A10"},
            r"engines have been built for sm86 NVIDIA A10, and this is sm86 Lazy",
        ),
        ({"flavour_version": "1.6.0"}, rf"engines are of tensorrt_rtx 1\.6\.0, and {re.escape(VERSION)} is"),
        ({"flavour": "tensorrt"}, r"no engine has been built"),
    ],
)
def test_engines_for_something_else_are_not_taken(
    bundle: Bundle, cache: EngineCache, settings: dict[str, Any] | None, complaint: str
) -> None:
    if settings is not None:
        put_bundle(cache, bundle, **settings)
    with TensorRtOnHost(cache) as backend, pytest.raises(BackendUnavailable, match=complaint):
        Stream(bundle, backend)


def test_a_frame_size_without_an_engine_is_an_error(bundle: Bundle, cache: EngineCache) -> None:
    put_bundle(cache, bundle, profiles=(fixed(64, 64), fixed(128, 96)))
    with TensorRtOnHost(cache) as backend, Stream(bundle, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((61, 64))
        with (
            Stream(bundle, backend, intensity=CAMERA, light=False) as other,
            pytest.raises(
                BackendUnavailable,
                match=r"encode are for frames of 64x64, 128x96 and these are 72x64: .*--size 72x64",
            ),
        ):
            other.prepare((65, 64))


def test_a_damaged_engine_is_never_loaded(bundle: Bundle, cache: EngineCache) -> None:
    for engine in put_bundle(cache, bundle):
        damaged = bytearray(engine.data)
        damaged[len(damaged) // 2] ^= 1
        engine.path.write_bytes(damaged)
    with (
        TensorRtOnHost(cache) as backend,
        Stream(bundle, backend, intensity=CAMERA, light=False) as stream,
        pytest.raises(
            BackendUnavailable, match=r"not used, since its file has the SHA-256 .*denoscope build"
        ),
    ):
        stream.prepare((24, 32))
    assert backend.loads == 0


def test_float32_goes_before_tf32_and_a_fixed_size_before_a_range(bundle: Bundle, cache: EngineCache) -> None:
    tf32 = {"options": {"recipe": "1", "scale": "2", "flow_scale": "4", "tf32": "True"}}
    put_bundle(cache, bundle, **tf32)
    with TensorRtOnHost(cache) as backend, Stream(bundle, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((24, 32))
        assert "TF32" in backend.describe()["precision"].removesuffix("without TF32")
    put_bundle(cache, bundle, profiles=(fixed(64, 64),))
    put_bundle(cache, bundle)
    graph = bundle.graph_bytes("encode")
    ordered = engines_for(graph, cache, EngineTarget("tensorrt_rtx", VERSION, (8, 6), "Lazy GPU"))
    assert [m.spec.options["tf32"] for m in ordered] == ["False", "False", "True"]
    assert ordered[0].spec.profiles == (fixed(64, 64),)


def test_a_failed_run_is_one_sentence(bundle: Bundle, cache: EngineCache) -> None:
    put_bundle(cache, bundle)
    with TensorRtOnHost(cache) as backend, Stream(bundle, backend, intensity=CAMERA, light=False) as stream:
        stream.prepare((24, 32))
        backend.device.fail["copy_in"] = RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: while executing a kernel")
        with pytest.raises(DeviceFailed, match="Lazy GPU was lost"):
            play(stream)


def test_auto_passes_over_it_until_its_engines_are_there(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU: which reason `auto` gives, and that engines change its mind."""

    def opened(self: TensorRtRtx, *, threads: int | None = None) -> None:
        TensorRtOnHost.__init__(self, cache, threads=threads)  # type: ignore[arg-type]

    monkeypatch.setenv("DENOSCOPE_ENGINES", str(cache.folder))
    monkeypatch.setattr(tensorrt_module, "local_gpu", lambda: LocalGpu("Lazy GPU", (8, 6), (13, 0)))
    monkeypatch.setattr(TensorRtRtx, "unavailable", classmethod(lambda _: None))
    monkeypatch.setattr(TensorRtRtx, "installed_version", classmethod(lambda _: VERSION))
    monkeypatch.setattr(TensorRtRtx, "__init__", opened)
    backend, choice = choose_backend("auto", threads=1, bundle=bundle)
    backend.close()
    assert choice.name == "openvino"
    assert re.search(r"no engine has been built.*build \S*tiny", choice.rejected["tensorrt-rtx"])
    put_bundle(cache, bundle)
    assert table._TABLE["tensorrt-rtx"].load().obstacle(bundle) is None


@pytest.mark.gpu
class TestTensorRtRtx(BackendContract):
    """On a GPU: the contract's own graphs are built first, by the real builder."""

    backend_class = TensorRtRtx

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Any:
        reason = self.backend_class.unavailable()
        if reason is not None:
            pytest.skip(reason)
        with _building(self.backend_class, EngineCache(tmp_path / "engines")) as backend:
            yield backend

    def test_refuses_no_threads(self, backend: Any) -> None:
        with pytest.raises(ValueError, match="threads"):
            self.backend_class(threads=0)

    def test_samples_along_a_flow(self, backend: Any) -> None:
        pytest.skip("inputs of engines are frames, features and flows; grids are made inside of them")


def _building(backend_class: type[TensorRtRtx], cache: EngineCache) -> TensorRtRtx:
    from denoscope.export.build_process import build_in_process_of_its_own  # one graph, no bundle
    from denoscope.export.builder import BuildRequest  # the builder itself
    from denoscope.runtime.engines import BuiltEngine, EngineSpec

    sizes = SizeRange(minimum=(4, 4), typical=(32, 32), maximum=(256, 256))

    class Building(backend_class):  # type: ignore[misc, valid-type]
        def compile(self, onnx: bytes) -> Any:
            import hashlib

            spec = EngineSpec(
                graph="graph",
                onnx_sha256=hashlib.sha256(onnx).hexdigest(),
                flavour="tensorrt_rtx",
                flavour_version=self.version,
                target="sm{}{}".format(*self.device.capability),
                profiles=(sizes,),
                options={"scale": "1", "tf32": "False"},
            )
            corners = (sizes.minimum, sizes.typical, sizes.maximum)
            request = BuildRequest(
                flavour="tensorrt_rtx",
                version=self.version,
                graph="graph",
                target=self.device.capability,
                scale=1,
                profiles=(corners,),
            )

            def build() -> BuiltEngine:
                data, contents = build_in_process_of_its_own(onnx, request, None)
                return BuiltEngine(data, contents)

            try:
                cache.get_or_build(spec, build)
            except Exception as error:
                raise BackendUnavailable(f"{self.name} has no engine ({error})") from error
            return super().compile(onnx)

    return Building(threads=1, cache=cache)


@pytest.mark.parametrize("built", [True, False])
def test_the_deviation_is_computed_only_where_it_is_asked_for(
    tmp_path: Path, cache: EngineCache, *, built: bool
) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.denoscope", window=5)
    put_bundle(cache, bundle)
    if built:  # as `denoscope build` does; an older version did not
        put_engine(cache, without_output(bundle.graph_bytes("fuse"), "std"), manifest=bundle.manifest)
    outputs = {}
    for std in (False, True):
        with TensorRtOnHost(cache) as backend, Stream(bundle, backend, std=std, light=False) as stream:
            outputs[std] = [o for n in range(9) for o in stream.push(stamped(n), FrameMeta(n, 0.0))]
            spent = stream._chosen.graphs.of(np.dtype(np.uint16))["fuse"].outputs
            assert ("std" in spent) == (std or not built)
            assert ("deviation" in backend.describe()) == (not std and not built)
    assert outputs[True][0].std is not None
    for lean, whole in zip(outputs[False], outputs[True], strict=True):
        np.testing.assert_array_equal(lean.frame, whole.frame)


def test_what_the_real_builder_made_is_found_and_loaded(bundle: Bundle, cache: EngineCache) -> None:
    """Names, sizes and options as `denoscope build` writes them; only the engine itself is not run."""
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'gpu'")
    from denoscope.export import Target, build_engine, plan_engines
    from denoscope.export.engines import installed_versions  # versions of the builder

    version = installed_versions()["tensorrt_rtx"]
    plans = plan_engines(bundle, [Target(8, 6)], [(24, 32)], flavour="tensorrt_rtx")
    built = {p.spec.graph: build_engine(p, cache) for p in plans if p.spec.graph in ("encode", "motion")}
    loaded: list[bytes] = []

    class Recording(TensorRtOnHost):
        @classmethod
        def installed_version(cls) -> str:
            return version

        def load(self, data: bytes, key: str) -> Any:
            loaded.append(data)
            raise DeviceFailed("no engine is run here")

    with Recording(cache) as backend:
        raw = backend.compile_raw(bundle.graph_bytes("encode"), "encode", "uint16")
        assert raw.inputs == ("raw", "raw::offset", "raw::factor", "noise")
        numbers = {n: backend.buffer((2,) if n == "noise" else (1,)) for n in raw.inputs[1:]}
        cells = backend.buffer((1, 4, 12, 16)), backend.buffer((1, 4, 12, 16))
        with pytest.raises(BackendUnavailable, match="no engine is run here"):
            raw.bind({"raw": backend.buffer((1, 1, 24, 32), "uint16"), **numbers}, {"features": cells[0]})
        motion = backend.compile(bundle.graph_bytes("motion"))
        inputs = dict(zip(motion.inputs, cells, strict=True))
        with pytest.raises(BackendUnavailable, match="no engine is run here"):
            motion.bind(inputs, {"flow": backend.buffer((1, 2, 6, 8))})
        assert loaded == [built["encode"].data, built["motion"].data]
        with pytest.raises(BackendUnavailable, match="no engine has been built"):
            backend.compile(bundle.graph_bytes("fuse"))
