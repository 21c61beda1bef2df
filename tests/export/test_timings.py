"""Kernel times that `tensorrt` has measured are kept; with a stand-in for its builder, which needs a GPU."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from denoscope.export import EngineBuildFailed, Target, build_engine, plan_engines
from denoscope.export import engines as engines_module  # builders that are replaced
from denoscope.export.build_process import build_in_process_of_its_own  # one graph, no bundle
from denoscope.export.builder import TIMES_KERNELS, BuildRequest, Timings  # the builder itself
from denoscope.runtime import Bundle
from denoscope.runtime.engines import EngineCache, LocalGpu
from support.tiny_bundle import tiny_bundle

ROOT = Path(__file__).parents[2]

# Its cache holds the digests of the graphs that it has timed; an engine says what it had to time.
FAKE = """
import hashlib, json, os
__version__ = os.environ.get("FAKE_TENSORRT", "11.4.0")
class ILogger:
    ERROR = 1
class IProgressMonitor:
    pass
class NetworkDefinitionCreationFlag:
    pass
class BuilderFlag:
    TF32 = 7
class Cache:
    def __init__(self, known):
        self.known = known
    def serialize(self):
        return memoryview(json.dumps([__version__, *self.known]).encode())
class Config:
    cache = None
    def set_flag(self, flag): pass
    def clear_flag(self, flag): pass
    def add_optimization_profile(self, profile): pass
    def create_timing_cache(self, data):
        if not data:
            return Cache([])
        version, *known = json.loads(data)
        cache = Cache(known)
        cache.version = version
        return cache
    def set_timing_cache(self, cache, ignore_mismatch):
        assert ignore_mismatch is False
        if getattr(cache, "version", __version__) != __version__:
            return False
        self.cache = cache
        return True
class Network:
    num_inputs = num_outputs = num_layers = 0
class OnnxParser:
    num_errors = 0
    def __init__(self, network, log):
        self.network = network
    def parse(self, onnx):
        self.network.graph = hashlib.sha256(onnx).hexdigest()
        return True
class Builder:
    def __init__(self, log): pass
    def create_network(self, flags):
        return Network()
    def create_builder_config(self):
        return Config()
    def create_optimization_profile(self):
        return object()
    def build_serialized_network(self, network, config):
        if os.environ.get("FAKE_TENSORRT_FAILS"):
            return None
        known = list(config.cache.known) if config.cache else None
        if config.cache and network.graph not in known:
            config.cache.known.append(network.graph)
        return memoryview(json.dumps(known).encode())
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return tiny_bundle(tmp_path / "tiny.denoscope")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "tensorrt.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(engines_module, "installed", lambda flavour: flavour == "tensorrt")
    use(monkeypatch, "11.4.0", "NVIDIA H200")
    return monkeypatch


def use(patch: pytest.MonkeyPatch, version: str, gpu: str) -> None:
    patch.setenv("FAKE_TENSORRT", version)
    patch.setattr(engines_module, "version", lambda flavour: version)
    patch.setattr(engines_module, "local_gpu", lambda: LocalGpu(gpu, (9, 0), (13, 0)))


def timed_before(tiny: Bundle, cache: EngineCache, graph: int, size: int = 64) -> int:
    """Build one graph and return how many graphs the builder knew the timings of."""
    plan = plan_engines(tiny, [Target(9, 0)], [(size, size)])[graph]
    engine = build_engine(plan, cache)
    assert engine.built
    return engine.data.count(b'"') // 2


def test_timings_go_from_build_to_build(tiny: Bundle, cache: EngineCache, fake: pytest.MonkeyPatch) -> None:
    assert timed_before(tiny, cache, 0) == 0
    assert timed_before(tiny, cache, 1) == 1
    assert timed_before(tiny, cache, 0, size=128) == 2
    kept = sorted((cache.folder / "timing").iterdir())
    assert [path.suffix for path in kept] == [".bin", ".lock"]
    if os.name == "posix":
        assert kept[0].stat().st_mode & 0o077 == 0
    assert [state.problem for state in cache.verify()] == [None] * 3


def test_each_gpu_and_version_has_its_own(tiny: Bundle, cache: EngineCache, fake: pytest.MonkeyPatch) -> None:
    assert timed_before(tiny, cache, 0) == 0
    use(fake, "11.5.0", "NVIDIA H200")
    assert timed_before(tiny, cache, 0) == 0
    use(fake, "11.4.0", "NVIDIA B200")
    assert timed_before(tiny, cache, 0) == 0
    assert len(list((cache.folder / "timing").glob("*.bin"))) == 3
    use(fake, "11.4.0", "NVIDIA H200")
    assert timed_before(tiny, cache, 1) == 1


def test_damaged_timings_are_measured_again(
    tiny: Bundle, cache: EngineCache, fake: pytest.MonkeyPatch
) -> None:
    timed_before(tiny, cache, 0)
    (file,) = (cache.folder / "timing").glob("*.bin")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert timed_before(tiny, cache, 1) == 0
    assert timed_before(tiny, cache, 0, size=128) == 1


def test_what_the_builder_refuses_is_measured_again(fake: pytest.MonkeyPatch) -> None:
    request = BuildRequest("tensorrt", "11.4.0", "encode", (9, 0), 1, ())
    timings = Timings(b'["11.3.0", "some graph"]')
    data, _ = build_in_process_of_its_own(b"graph", request, timings=timings)
    assert data == b"[]"
    assert hashlib.sha256(b"graph").hexdigest().encode() in timings.data
    assert b"some graph" not in timings.data
    data, _ = build_in_process_of_its_own(b"graph", request)
    assert data == b"null", "without timings the builder gets no cache"


def test_a_failed_build_keeps_the_timings(tiny: Bundle, cache: EngineCache, fake: pytest.MonkeyPatch) -> None:
    timed_before(tiny, cache, 0)
    (file,) = (cache.folder / "timing").glob("*.bin")
    before = file.read_bytes()
    fake.setenv("FAKE_TENSORRT_FAILS", "1")
    with pytest.raises(EngineBuildFailed):
        timed_before(tiny, cache, 1)
    assert file.read_bytes() == before
    fake.delenv("FAKE_TENSORRT_FAILS")
    assert timed_before(tiny, cache, 1) == 1


ADD = """
import sys, time
from denoscope.runtime.engines import EngineCache
for _ in range(5):
    with EngineCache(sys.argv[1]).updating("timing", "key") as (known, save):
        time.sleep(0.01)
        save((known or b"") + sys.argv[2].encode())
"""


def test_processes_that_update_at_once_lose_nothing(cache: EngineCache) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in ("export", "runtime"))
    words = [sys.executable, "-c", textwrap.dedent(ADD), str(cache.folder)]
    children = [subprocess.Popen([*words, name], env={**os.environ, "PYTHONPATH": path}) for name in "abc"]
    assert [child.wait(250) for child in children] == [0, 0, 0]
    assert sorted(cache.kept("timing", "key") or b"") == sorted(b"abc" * 5)


@pytest.mark.skipif(not engines_module.installed("tensorrt_rtx"), reason="needs the extra 'gpu'")
def test_tensorrt_rtx_has_nothing_to_keep(tiny: Bundle, cache: EngineCache) -> None:
    """The day that this fails its timings are worth keeping: add it to `TIMES_KERNELS`."""
    assert "tensorrt_rtx" not in TIMES_KERNELS
    plans = plan_engines(tiny, [Target(8, 6)], [(64, 64)], flavour="tensorrt_rtx")[:2]
    corners = ((64, 64),) * 3
    timings, sizes = Timings(), set()
    for plan in plans:
        spec = plan.spec
        request = BuildRequest(
            "tensorrt_rtx", spec.flavour_version, spec.graph, (8, 6), plan.scale, (corners,)
        )
        build_in_process_of_its_own(plan.onnx, request, timings=timings)
        sizes.add(len(timings.data))
    assert len(sizes) == 1, "however many graphs were built, only the head of a timing cache is there"
    build_engine(plans[0], cache)
    assert not (cache.folder / "timing").exists()
