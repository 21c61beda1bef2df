"""The engine cache: what is not exactly what was asked for is built again, and built once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import denoscope.runtime.engines as public
from denoscope.runtime import InvalidInput
from denoscope.runtime.engines import (
    BuiltEngine,
    CachedEngine,
    EngineCache,
    EngineSpec,
    LocalGpu,
    SizeRange,
    default_cache_folder,
)
from denoscope.runtime.engines import cache as cache_module
from denoscope.runtime.engines import driver as driver_module

ROOT = Path(__file__).parents[2]
SIZE = SizeRange(minimum=(512, 512), typical=(512, 512), maximum=(512, 512))
SPEC = EngineSpec(
    graph="encode",
    onnx_sha256="a" * 64,
    flavour="tensorrt_rtx",
    flavour_version="1.7.1",
    target="sm86",
    profiles=(SIZE,),
    options={"tf32": "False"},
)
OTHERS: dict[str, dict[str, Any]] = {
    "graph": {"graph": "fuse"},
    "other ONNX": {"onnx_sha256": "b" * 64},
    "other flavour": {"flavour": "tensorrt"},
    "other version": {"flavour_version": "1.7.2"},
    "other GPU": {"target": "sm89"},
    "other size": {"profiles": (SizeRange(minimum=(8, 8), typical=(512, 512), maximum=(512, 512)),)},
    "other options": {"options": {"tf32": "True"}},
}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows decides by access lists")


class Builder:
    """Counts how often it was asked; every engine has another content."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> BuiltEngine:
        self.calls += 1
        return BuiltEngine(b"engine %d " % self.calls + bytes(range(256)) * 16)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "private" / "engines")


def entry(cache: EngineCache, spec: EngineSpec = SPEC) -> tuple[Path, Path]:
    return cache.folder / f"{spec.key}.engine", cache.folder / f"{spec.key}.json"


def test_an_engine_is_built_once_and_then_found(cache: EngineCache) -> None:
    assert cache.find(SPEC) == "not built yet"
    assert not cache.folder.exists(), "looking makes no folder"
    build = Builder()
    first = cache.get_or_build(SPEC, build, bundle="live")
    again = cache.get_or_build(SPEC, build, bundle="other")
    assert (first.built, first.reason, again.built, again.reason) == (True, "not built yet", False, "")
    assert first.data == again.data == first.path.read_bytes()
    assert again.manifest == first.manifest
    assert again.manifest.bundle == "live"
    assert build.calls == 1
    assert [state.problem for state in cache.verify()] == [None]


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_any_other_request_is_another_engine(cache: EngineCache, change: dict[str, Any]) -> None:
    build = Builder()
    first = cache.get_or_build(SPEC, build)
    other = SPEC.model_copy(update=change)
    assert other.key != SPEC.key
    assert cache.get_or_build(other, build).built
    assert cache.get_or_build(SPEC, build).data == first.data
    assert build.calls == 2


def flip(engine: Path, _: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)


def another_engine(engine: Path, manifest: Path) -> None:
    """Put a sound engine for another GPU where this one lies, manifest and all."""
    other = SPEC.model_copy(update={"target": "sm120"})
    EngineCache(engine.parent).get_or_build(other, Builder())
    for path in (engine, manifest):
        (engine.parent / f"{other.key}{path.suffix}").replace(path)


def change_manifest(engine: Path, manifest: Path, **change: object) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))


def link(engine: Path, _: Path) -> None:
    elsewhere = engine.with_name("elsewhere")
    engine.replace(elsewhere)
    engine.symlink_to(elsewhere)


DAMAGE: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "flipped byte": (flip, "SHA-256"),
    "truncated": (lambda e, m: os.truncate(e, 100), "100 bytes instead"),
    "emptied": (lambda e, m: os.truncate(e, 0), "0 bytes instead"),
    "longer": (lambda e, m: e.write_bytes(e.read_bytes() + b"!"), "bytes instead"),
    "gone": (lambda e, m: e.unlink(), "missing"),
    "without a manifest": (lambda e, m: m.unlink(), "not built yet"),
    "half a manifest": (lambda e, m: os.truncate(m, 200), "manifest is damaged"),
    "a manifest of bytes": (lambda e, m: m.write_bytes(b"\xff\x00" * 50), "manifest is damaged"),
    "an unknown key": (lambda e, m: change_manifest(e, m, colour="red"), "manifest is damaged"),
    "another digest": (lambda e, m: change_manifest(e, m, sha256="c" * 64), "SHA-256"),
    "an engine for another GPU": (another_engine, "belongs to another engine"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_engine_is_rebuilt_never_returned(
    cache: EngineCache, damage: Callable[[Path, Path], object], reason: str
) -> None:
    build = Builder()
    cache.get_or_build(SPEC, build)
    damage(*entry(cache))
    assert [reason in str(state.problem) for state in cache.verify()] == [True]
    rebuilt = cache.get_or_build(SPEC, build)
    assert rebuilt.built
    assert reason in rebuilt.reason
    assert rebuilt.data.startswith(b"engine 2 ")
    found = cache.find(SPEC)
    assert isinstance(found, CachedEngine)
    assert found.data == rebuilt.data


@POSIX
@pytest.mark.parametrize("suffix", [".engine", ".json"])
@pytest.mark.parametrize("harm", ["link", "mode"])
def test_a_file_that_others_can_write_is_rebuilt(cache: EngineCache, suffix: str, harm: str) -> None:
    build = Builder()
    cache.get_or_build(SPEC, build)
    path = next(p for p in entry(cache) if p.suffix == suffix)
    link(path, path) if harm == "link" else path.chmod(0o666)
    assert cache.get_or_build(SPEC, build).built
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not cache.get_or_build(SPEC, build).built


@POSIX
def test_the_folder_is_the_users_alone(cache: EngineCache) -> None:
    cache.get_or_build(SPEC, Builder())
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.folder.chmod(0o777)
    for use in (
        lambda: cache.find(SPEC),
        lambda: cache.get_or_build(SPEC, Builder()),
        lambda: cache.prune({}),
    ):
        with pytest.raises(InvalidInput, match=r"can be written by other users.*chmod go-w"):
            use()


@POSIX
def test_an_engine_of_another_user_is_foreign(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.get_or_build(SPEC, Builder())
    owner = cache.folder.stat().st_uid
    monkeypatch.setattr(cache_module.os, "geteuid", lambda: owner + 1)
    with pytest.raises(InvalidInput, match=f"belongs to the user {owner}"):
        cache.find(SPEC)


def test_a_failed_build_leaves_nothing(cache: EngineCache) -> None:
    def fail() -> BuiltEngine:
        raise ValueError("the builder says no")

    with pytest.raises(ValueError, match="says no"):
        cache.get_or_build(SPEC, fail)
    assert list(cache.verify()) == []
    assert cache.get_or_build(SPEC, Builder()).built


def test_prune_keeps_what_can_be_used(cache: EngineCache) -> None:
    assert cache.prune({}) == []
    old, good, foreign = (
        SPEC.model_copy(update=change)
        for change in ({"flavour_version": "1.6"}, {"target": "sm89"}, {"flavour": "tensorrt"})
    )
    for spec in (SPEC, old, good, foreign):
        cache.get_or_build(spec, Builder())
    flip(*entry(cache))
    draft = cache.folder / f"{good.key}.engine.draft"
    draft.write_bytes(b"half")
    gone = dict(cache.prune({"tensorrt_rtx": "1.7.1"}))
    assert set(gone) == {entry(cache)[0], entry(cache, old)[0], draft}
    assert "is now 1.7.1, the engine is of 1.6" in gone[entry(cache, old)[0]]
    assert {state.path.stem for state in cache.verify()} == {good.key, foreign.key}
    assert len(cache.prune({}, everything=True)) == 2
    assert list(cache.verify()) == []


RACE = """
import sys, time
from pathlib import Path
from denoscope.runtime.engines import BuiltEngine, EngineCache, EngineSpec
folder, spec, log = sys.argv[1:]
def build():
    with Path(log).open("a") as file:
        file.write("built\\n")
    time.sleep(0.7)
    return BuiltEngine(b"engine " * 1000)
print("ready", flush=True)
sys.stdin.readline()
waits = []
engine = EngineCache(folder).get_or_build(
    EngineSpec.model_validate_json(spec), build, on_wait=lambda: waits.append(1)
)
print(engine.built, len(waits), len(engine.data), flush=True)
"""


def racer(cache: EngineCache, log: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", RACE, str(cache.folder), SPEC.model_dump_json(), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "runtime")},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize("damaged", [False, True], ids=["missing", "damaged"])
def test_processes_that_want_the_same_engine_build_it_once(
    cache: EngineCache, tmp_path: Path, damaged: bool
) -> None:
    if damaged:
        cache.get_or_build(SPEC, Builder())
        flip(*entry(cache))
    log = tmp_path / "log"
    children = [racer(cache, log) for _ in range(3)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = sorted(child.communicate(timeout=280)[0].split() for child in children)
    assert log.read_text() == "built\n"
    assert [built for built, _, _ in answers] == ["False", "False", "True"]
    assert all(size == "7000" for _, _, size in answers)
    assert [state.problem for state in cache.verify()] == [None]


def test_a_process_that_dies_while_building_holds_up_nobody(cache: EngineCache, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with racer(cache, log) as child:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        while not log.exists():
            assert child.poll() is None
        child.kill()
    assert cache.get_or_build(SPEC, Builder()).built


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DENOSCOPE_ENGINES", str(tmp_path))
    assert EngineCache().folder == default_cache_folder() == tmp_path
    monkeypatch.delenv("DENOSCOPE_ENGINES")
    assert EngineCache().folder.parts[-2:] in {("denoscope", "engines"), ("Cache", "engines")}


def test_sizes_that_an_engine_covers() -> None:
    size = SizeRange(minimum=(64, 64), typical=(512, 512), maximum=(1024, 2048))
    assert size.covers(64, 2048)
    assert size.covers(1024, 64)
    assert not size.covers(1032, 64)
    assert not size.covers(64, 56)
    assert (str(size), str(SIZE)) == ("64x64..1024x2048", "512x512")
    with pytest.raises(ValueError, match="does not lie between"):
        SizeRange(minimum=(64, 64), typical=(32, 64), maximum=(128, 128))


class Driver:
    """A CUDA driver that answers like a PC with one RTX 4090."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes

    def __getattr__(self, name: str) -> Callable[..., int]:
        values = {"cuDeviceGetCount": 1, "cuDeviceGet": 0, "cuDriverGetVersion": 13020}

        def call(*arguments: Any) -> int:
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA GeForce RTX 4090"
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {75: 8, 76: 9}[arguments[1]]
            elif name in values:
                arguments[0]._obj.value = values[name]
            return self.codes.get(name, 0)

        return call


def test_the_driver_is_asked_for_the_gpu() -> None:
    assert driver_module._ask(Driver(), 0) == LocalGpu("NVIDIA GeForce RTX 4090", (8, 9), (13, 2))
    assert "cuInit returned 100" in str(driver_module._ask(Driver(cuInit=100), 0))
    assert "sees 1 GPUs" in str(driver_module._ask(Driver(), 1))
    assert "returned 999" in str(driver_module._ask(Driver(cuDeviceGetName=999), 0))


def test_without_a_driver_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(driver_module.ctypes, "CDLL", missing)
    assert "no NVIDIA driver is installed" in str(public.local_gpu())


def test_public_names_exist() -> None:
    assert all(getattr(public, name).__doc__ for name in public.__all__)


def test_an_engine_is_on_the_disk_before_it_has_its_name(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    fsync = os.fsync

    def kept(descriptor: int) -> None:
        status = os.fstat(descriptor)
        assert not any(path.exists() and path.stat().st_ino == status.st_ino for path in entry(cache))
        synced[status.st_ino] = status.st_size
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", kept)
    cache.get_or_build(SPEC, Builder())
    for path in entry(cache):
        assert synced[path.stat().st_ino] == path.stat().st_size
